"""The canary: leads of reserved Pages, which travel as others do, end before the call to Meta, and are seen by nobody.

The join follows them up by a rule of its own, publishes none of these leads and remembers none of these people. The
send sink calls nobody: instead of an outcome it writes the mark of the person, which has no value.
"""

from collections.abc import Callable, Iterable
from datetime import timedelta
from functools import lru_cache

from leads.pages import Pages, is_canary
from leads.records import FollowUpMessage
from leads.rules import Policy, Rule, RuleStep
from messenger.events import PageId, Psid

# Once it counts as lost, it is of no more use.
_RULE = Rule(name="canary", within=timedelta(minutes=1), steps=(RuleStep(FollowUpMessage("canary")),))
_MARK = "canary:"
# Pages whose policy is kept: each event of theirs asks for it.
_PAGES_KEPT = 4096


def mark_of(psid: Psid) -> str:
    """The key of the record that says that the canary of this person came back."""
    return f"{_MARK}{psid}"


def is_mark(key: bytes) -> bool:
    return key.startswith(_MARK.encode())


def policies(pages: Pages, rules: Iterable[Rule]) -> Callable[[PageId], Policy]:
    """The policy of each Page."""
    rules = tuple(rules)
    return lru_cache(_PAGES_KEPT)(lambda page_id: Policy(pages.get(page_id), (_RULE,) if is_canary(page_id) else rules))
