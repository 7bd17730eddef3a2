"""The commands of follow-ups: a step of a rule for a lead, or its cancellation."""

from datetime import datetime

from msgspec.structs import replace

from leads.message import longest_text
from leads.pages import Page
from leads.pairing import flow_ended_at
from leads.records import CancelReason, FollowUpMessage, Lead, SendFollowUp, command_id
from leads.rules import Rule, render


def command_of(lead: Lead, rule: Rule, number: int, at: datetime, page: Page) -> SendFollowUp:
    return SendFollowUp(
        command_id=command_id(lead.lead_id, rule.name, number),
        lead_id=lead.lead_id,
        page_id=lead.page_id,
        psid=lead.psid,
        rule=rule.name,
        step=number,
        created_at=at,
        not_before=at,
        not_after=not_after(lead),
        message=rendered(rule.steps[number - 1].send, lead),
        then=rule.then if number == len(rule.steps) else None,
        quiet_hours=str(rule.quiet_hours) if rule.quiet_hours else None,
        time_zone=page.time_zone.key if rule.quiet_hours else None,
        useful_until=at + rule.within if rule.within else None,
        follows=command_id(lead.lead_id, rule.name, number - 1) if number > 1 else None,
        cancel_on=tuple(sorted(rule.cancel_on)),
        flow_ended_at=flow_ended_at(lead),
    )


def cancel_of(lead: Lead, rule: str, number: int, until: datetime, reason: CancelReason, at: datetime) -> SendFollowUp:
    """The record that cancels a command; it has nothing to send."""
    return SendFollowUp(
        command_id=command_id(lead.lead_id, rule, number),
        lead_id=lead.lead_id,
        page_id=lead.page_id,
        psid=lead.psid,
        rule=rule,
        step=number,
        created_at=at,
        not_before=at,
        not_after=until,
        message=FollowUpMessage(""),
        cancel_reason=reason,
    )


def not_after(lead: Lead) -> datetime:
    """The end of the messaging window, narrowed by thread control where we know it."""
    return min(lead.messaging_window_closes_at, lead.thread_control_expires_at or lead.messaging_window_closes_at)


def rendered(message: FollowUpMessage, lead: Lead) -> FollowUpMessage:
    """The message for this lead's person, no longer than Meta takes."""
    return replace(message, text=render(message.text, lead, longest_text(message)))
