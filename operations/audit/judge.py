"""The auditor: a history in, everything that is not accounted for out."""

from collections.abc import Sequence

from leads.erasures import Erasures
from leads.pages import Pages
from leads.rules import Rule
from operations.audit import fold, intake, rows, sends
from operations.audit.history import Finding, History
from operations.audit.sends import Slack
from schemas.topics import ERASURES


def audit(
    history: History, pages: Pages, rules: Sequence[Rule] | None, *, partitions: int, slack: Slack
) -> list[Finding]:
    """All findings, each once and in order; it judges by the history alone.

    Without `rules`, as after a change of them, commands are not compared with a fold of the log.
    """
    erasures = Erasures()
    for record in history.of(ERASURES):
        erasures.note(record.key, record.value)
    found = [
        *intake.unkept_promises(history),
        *intake.unended_items(history, pages, erasures),
        *intake.unanswered_requests(history, erasures),
        *fold.differences(history, pages, rules, erasures, partitions),
        *fold.unused_signals(history, erasures),
        *sends.differences(history, pages, erasures, slack),
        *rows.differences(history),
    ]
    return sorted(set(found))
