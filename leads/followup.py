"""The planner: which follow-ups a lead sets going, when they are due, what cancels them."""

from dataclasses import replace
from datetime import datetime

from leads.identity import command_id
from leads.pairing import flow_ended_at
from leads.person import LeadState, Person, Scheduled
from leads.records import FollowUpMessage, Lead, SendFollowUp
from leads.rules import Cancellation, Rule, render

Rules = tuple[Rule, ...]
Planned = tuple[Person, tuple[SendFollowUp, ...]]
_ONLY_STEP = 1


def plan(person: Person, state: LeadState, rules: Rules, at: datetime) -> Planned:
    """Set going what this revision of a lead asks for; what is due at once comes back as commands."""
    acting = [rule for rule in rules if rule.name not in state.planned and rule.acts_on(state.lead)]
    if not acting:
        return person, ()
    state = replace(state, planned=state.planned + tuple(rule.name for rule in acting))
    later = tuple(Scheduled(state.lead.lead_id, rule.name, at + rule.after) for rule in acting if rule.after)
    person = replace(person.with_lead(state), scheduled=person.scheduled + later)
    return person, tuple(_command(state.lead, rule, at, at) for rule in acting if not rule.after)


def due(person: Person, scheduled: Scheduled, rules: Rules) -> Planned:
    """Issue a scheduled follow-up. The command carries its due time, not the moment of firing."""
    person = replace(person, scheduled=tuple(one for one in person.scheduled if one != scheduled))
    state = person.lead(scheduled.lead_id)
    rule = _rule(rules, scheduled.rule)
    if state is None or rule is None:
        return person, ()
    return person, (_command(_with_windows_of(person, state.lead), rule, scheduled.due_at, scheduled.due_at),)


def cancel(person: Person, reason: Cancellation, rules: Rules, happened_at: datetime, at: datetime) -> Planned:
    """Cancel what is pending: scheduled, or waiting for a lead's answers. What happened before a lead ended does not
    touch its follow-ups."""
    commands: list[SendFollowUp] = []
    for state in person.leads:
        if happened_at < flow_ended_at(state.lead):
            continue
        scheduled = {one.rule for one in person.scheduled if one.lead_id == state.lead.lead_id}
        pending = [rule for rule in rules if reason in rule.cancel_on and _is_pending(rule, state, scheduled)]
        names = {rule.name for rule in pending}
        person = replace(
            person.with_lead(replace(state, planned=tuple(dict.fromkeys((*state.planned, *sorted(names)))))),
            scheduled=tuple(
                one for one in person.scheduled if one.lead_id != state.lead.lead_id or one.rule not in names
            ),
        )
        commands += (_command(state.lead, rule, at, at, cancel_reason=reason) for rule in pending)
    return person, tuple(commands)


def _is_pending(rule: Rule, state: LeadState, scheduled: set[str]) -> bool:
    waits = not state.lead.closed and rule.name not in state.planned and rule.concerns(state.lead)
    return rule.name in scheduled or waits


def _command(
    lead: Lead, rule: Rule, created_at: datetime, not_before: datetime, *, cancel_reason: str | None = None
) -> SendFollowUp:
    return SendFollowUp(
        command_id=command_id(lead.lead_id, rule.name, _ONLY_STEP),
        lead_id=lead.lead_id,
        page_id=lead.page_id,
        psid=lead.psid,
        rule=rule.name,
        step=_ONLY_STEP,
        created_at=created_at,
        not_before=not_before,
        not_after=not_after(lead),
        message=rendered(rule.send, lead),
        cancel_reason=cancel_reason,
    )


def not_after(lead: Lead) -> datetime:
    """The end of the messaging window, narrowed by thread control where we know it."""
    return min(lead.messaging_window_closes_at, lead.thread_control_expires_at or lead.messaging_window_closes_at)


def rendered(message: FollowUpMessage, lead: Lead) -> FollowUpMessage:
    return replace(message, text=render(message.text, lead))


def _with_windows_of(person: Person, lead: Lead) -> Lead:
    return replace(lead, thread_control_expires_at=person.thread_control_expires_at)


def _rule(rules: Rules, name: str) -> Rule | None:
    return next((rule for rule in rules if rule.name == name), None)
