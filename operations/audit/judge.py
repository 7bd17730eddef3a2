"""The auditor: a history in, everything that is not accounted for out."""

from collections.abc import Sequence

from leads.erasures import Erasures
from leads.pages import Pages
from leads.rules import Rule
from operations.audit import intake, plain_flows, rows, sends
from operations.audit.bodies import items_in, leads_of, unused_items
from operations.audit.fold import Fold, differences
from operations.audit.history import Finding, History
from operations.audit.stops import Slack
from schemas.topics import ERASURES, WEBHOOKS


def audit(
    history: History,
    pages: Pages,
    rules: Sequence[Rule] | None,
    *,
    partitions: int,
    slack: Slack,
    fold: Fold | None = None,
) -> list[Finding]:
    """All findings, each once and in order; it judges by the history alone.

    Without `rules`, as after a change of them, commands are not compared with a fold of the log. A `fold` has taken
    the log up to here already.
    """
    erasures = Erasures()
    for record in history.of(ERASURES):
        erasures.note(record.key, record.value)
    if fold is None:
        aside = intake.set_aside(history.topics.get(WEBHOOKS.dead_letters, ()))
        fold = Fold(pages, rules, erasures, partitions, set_aside=aside, ids=history.ids)
        for record in history.of(WEBHOOKS):
            fold.take([record], history.until)
        fold.pass_time(history.until)
    items, leads = items_in(history, pages, erasures), leads_of(history)
    found = [
        *intake.unkept_promises(history),
        *intake.unended_items(history, pages, erasures),
        *intake.lost_letters(history),
        *intake.unanswered_requests(history, erasures),
        *differences(history, fold, rules, erasures),
        *plain_flows.differences(history, items, leads, pages, rules, fold.unlike),
        *unused_items(history, items, leads, pages),
        *sends.differences(history, pages, erasures, slack),
        *rows.differences(history),
    ]
    return sorted(set(found))
