"""Preview the rules for a lead as it stands, without sending anything."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo

from leads.commands import not_after, rendered
from leads.records import FollowUpMessage, Lead
from leads.rules import Rule, Rules


@dataclass(frozen=True, slots=True)
class Preview:
    """One step of a rule: `why_not` says what speaks against it, None when it would be sent.

    `send_at` is None where the rule does not act at all; `template` is the message with its placeholders.
    """

    rule: str
    step: int
    template: FollowUpMessage
    message: FollowUpMessage
    until: datetime
    send_at: datetime | None = None
    why_not: str | None = None


def preview(lead: Lead, rules: Rules, zone: ZoneInfo) -> Iterator[Preview]:
    """Each step of each rule, as if this revision were the first of the lead that the rules see."""
    for rule in rules:
        reason = why_not(rule, lead)
        moment: datetime = lead.updated_at
        for number, step in enumerate(rule.steps, start=1):
            told = (rule.name, number, step.send, rendered(step.send, lead))
            if reason is not None:
                yield Preview(*told, not_after(lead), why_not=reason)
                continue
            moment = rule.due_at(number, moment, zone)
            until = min(not_after(lead), moment + rule.within) if rule.within else not_after(lead)
            late = moment >= not_after(lead)
            yield Preview(*told, until, send_at=moment, why_not="the window closes before" if late else None)


def why_not(rule: Rule, lead: Lead) -> str | None:
    """The first reason for which the rule leaves this revision alone."""
    if rule.outcome not in (None, lead.outcome):
        return f"the lead is {lead.outcome}"
    if rule.pages is not None and lead.page_id not in rule.pages:
        return "it is about other Pages"
    if not rule.concerns(lead):
        return "it is about other ads"
    failed = next((condition.question for condition in rule.answers if not condition.holds(lead)), None)
    if failed is not None:
        return f"the answer to {failed!r} is another one, or is missing"
    return None if rule.acts_on(lead) else f"it waits for the {rule.wait_for}"
