"""Plan follow-ups: start those of a lead, fire them when they are due, cancel them."""

from collections.abc import Collection, Iterable
from datetime import datetime, timedelta
from typing import get_args

from msgspec.structs import replace

from leads.commands import cancel_of, command_of, not_after
from leads.opt_out import Said, is_undecided, notice, with_finished_flow, with_words
from leads.pairing import flow_ended_at
from leads.person import Issued, Person, Scheduled, closes_at
from leads.records import (
    CONDITIONS_CHANGED,
    OPTED_OUT,
    PAGE_BLOCKED,
    SHED,
    SUPERSEDED,
    Cancellation,
    CancelReason,
    Lead,
    LeadId,
    LeadState,
    SendFollowUp,
    command_id,
)
from leads.rules import Policy, Rule, Rules
from leads.transcripts import is_awaited, without_awaited

_SECOND = timedelta(seconds=1)

Planned = tuple[Person, tuple[SendFollowUp, ...]]


def plan(person: Person, state: LeadState, policy: Policy, at: datetime) -> Planned:
    """Start the follow-ups of this revision of a lead; those that are due at once come back as commands.

    Only the latest flow of a person is followed up: what is pending for the others is cancelled. What is pending for
    this lead is cancelled where its rule's conditions do not hold for this revision. A rule whose cancellation came
    after the lead's flow ended, and before its time to act, is cancelled at once.
    """
    person, opted_in = _opt_in_by_flow(person, state.lead, at)
    person, superseded = _cancel(person, _superseded(person), SUPERSEDED, policy.rules, at)
    person, unmet = _cancel_unmet(person, state.lead, policy.rules, at)
    person, started = _start(person, person.lead(state.lead.lead_id) or state, policy, at)
    return person, opted_in + superseded + unmet + started


def _start(person: Person, state: LeadState, policy: Policy, at: datetime) -> Planned:
    is_settled = state.lead.closed or state.lead.lead_id not in person.assumed
    acting = [rule for rule in policy.rules if rule.name not in state.planned and rule.acts_on(state.lead)]
    if is_awaited(person, state.lead.lead_id):
        acting = [rule for rule in acting if rule.wait_for != "answers"]
    ends_all = _why_all_ends(person, state.lead) if acting else None
    if not state.lead.closed and ends_all is None:
        # Another app may give the thread back.
        acting = [rule for rule in acting if _why_cancelled(person, state.lead, rule) != "control_lost"]
    if not acting or not is_settled or is_undecided(person, state.lead):
        return person, ()
    person = person.with_lead(replace(state, planned=state.planned + tuple(rule.name for rule in acting)))
    commands: list[SendFollowUp] = []
    lead = _with_windows_of(person, state.lead)
    for rule in acting:
        reason = ends_all or _why_cancelled(person, lead, rule)
        if reason is not None and not (reason == "control_lost" and rule.due_at(1, at, policy.page.time_zone) > at):
            commands.append(cancel_of(lead, rule.name, 1, not_after(lead), reason, at))
            continue
        person, issued = _issue_from(person, lead, rule, 1, at, policy)
        commands += issued
    return person, tuple(commands)


def resume(person: Person, policy: Policy, at: datetime) -> Planned:
    """Start what waited for the thread, because another app gave it back."""
    commands: tuple[SendFollowUp, ...] = ()
    for lead_id in [state.lead.lead_id for state in person.leads if not state.lead.closed]:
        state = person.lead(lead_id)
        assert state is not None, "no lead goes while its rules start"
        person, started = _start(person, state, policy, at)
        commands += started
    return person, commands


def end_wait(person: Person, lead_id: LeadId, policy: Policy, at: datetime) -> Planned:
    """Start what waited for the transcript of a lead, because it has no answers, or does not come."""
    state = person.lead(lead_id)
    if state is None or not is_awaited(person, lead_id):
        return without_awaited(person, lead_id), ()
    return _start(without_awaited(person, lead_id), state, policy, at)


def _latest(person: Person) -> Lead:
    """The lead of the flow that the person ended last; of two that ended together, the complete one."""
    newest, *others = (state.lead for state in reversed(person.leads))
    latest, rank = newest, _rank(newest)
    for lead in others:
        # A flow ends before it is seen: most of many leads need no closer look.
        if lead.first_seen_at >= rank[0] - _SECOND and (other := _rank(lead)) > rank:
            latest, rank = lead, other
    return latest


def _rank(lead: Lead) -> tuple[datetime, bool]:
    return flow_ended_at(lead), lead.outcome == "complete"


def _superseded(person: Person) -> list[LeadState]:
    """The leads before the latest for which something may be pending."""
    if len(person.leads) == 1:
        return []
    latest = _latest(person).lead_id
    busy = {step.lead_id for step in person.scheduled} | {step.lead_id for step in person.issued}
    busy |= {awaited.lead_id for awaited in person.awaited}
    earlier = [state for state in person.leads if state.lead.lead_id != latest]
    return [state for state in earlier if not state.lead.closed or state.lead.lead_id in busy]


def _cancel_unmet(person: Person, lead: Lead, rules: Rules, at: datetime) -> Planned:
    unmet = {rule.name for rule in rules if not rule.acts_on(lead)}
    scheduled = [step for step in person.scheduled if step.lead_id == lead.lead_id and step.rule in unmet]
    issued = [step for step in person.issued if step.lead_id == lead.lead_id and step.rule in unmet]
    if not scheduled and not issued:
        return person, ()
    person = replace(
        person,
        scheduled=tuple(step for step in person.scheduled if step not in scheduled),
        issued=tuple(step for step in person.issued if step not in issued),
    )
    ended = [(step.rule, step.step, step.not_after) for step in issued]
    ended += [(step.rule, step.step, not_after(lead)) for step in scheduled]
    return person, tuple(cancel_of(lead, *step, CONDITIONS_CHANGED, at) for step in ended)


def passed_over(state: LeadState, rules: Rules, at: datetime) -> LeadState:
    """Mark every rule that would have started by `at` as done."""
    lead = replace(state.lead, closed=state.lead.closed or state.closes_at <= at)
    acting = (rule.name for rule in rules if rule.acts_on(lead))
    return replace(state, planned=tuple(dict.fromkeys((*state.planned, *acting))))


def without_second_chance(person: Person, state: LeadState, rules: Rules) -> LeadState:
    """A person who was told that they finished is not asked to."""
    lead_id = state.lead.lead_id
    unsent = {waiting.rule for waiting in person.scheduled if waiting.lead_id == lead_id and waiting.step == 1}
    if unsent.issuperset(state.planned):
        return state
    names = (rule.name for rule in rules)
    return replace(state, planned=tuple(dict.fromkeys((*state.planned, *names))))


def _why_all_ends(person: Person, lead: Lead) -> CancelReason | None:
    """Why no rule acts on the lead."""
    if person.is_opted_out:
        return OPTED_OUT
    return SUPERSEDED if _latest(person).lead_id != lead.lead_id else None


def _why_cancelled(person: Person, lead: Lead, rule: Rule) -> CancelReason | None:
    """What the rule names that happened since the flow ended."""
    ended_at = flow_ended_at(lead)
    happened = (intervention.reason for intervention in person.interventions if intervention.happened_at >= ended_at)
    return min((reason for reason in happened if reason in rule.cancel_on), default=None)


def due(person: Person, scheduled: Scheduled, policy: Policy) -> Planned:
    """Issue a scheduled follow-up. The command carries its due time, not the moment of firing.

    It is cancelled instead where its rule's conditions do not hold for the lead, where another flow is later, and where
    the person opted out.
    """
    person = replace(person, scheduled=tuple(waiting for waiting in person.scheduled if waiting != scheduled))
    state = person.lead(scheduled.lead_id)
    rule = next((rule for rule in policy.rules if rule.name == scheduled.rule), None)
    if state is None or rule is None or scheduled.step > len(rule.steps):
        return person, ()
    lead = _with_windows_of(person, state.lead)
    reason = _why_all_ends(person, lead) or _why_cancelled(person, lead, rule)
    reason = reason or (None if rule.acts_on(lead) else CONDITIONS_CHANGED)
    if reason is not None:
        return person, (cancel_of(lead, rule.name, scheduled.step, not_after(lead), reason, scheduled.due_at),)
    return _issue(person, lead, rule, scheduled.step, scheduled.due_at, policy)


def _issue_from(person: Person, lead: Lead, rule: Rule, number: int, since: datetime, policy: Policy) -> Planned:
    """Issue the steps from `number` on that are due at once, and schedule the one after them."""
    if number > len(rule.steps):
        return person, ()
    due_at = rule.due_at(number, since, policy.page.time_zone)
    if due_at > since:
        later = Scheduled(lead.lead_id, rule.name, due_at, number)
        return replace(person, scheduled=(*person.scheduled, later)), ()
    return _issue(person, lead, rule, number, since, policy)


def _issue(person: Person, lead: Lead, rule: Rule, number: int, at: datetime, policy: Policy) -> Planned:
    """Issue a step and go on after it. While Meta blocks the Page the rule ends here instead."""
    if policy.is_blocked:
        return person, (cancel_of(lead, rule.name, number, not_after(lead), PAGE_BLOCKED, at),)
    command = command_of(lead, rule, number, at, policy.page)
    person, more = _issue_from(_with_issued(person, command, rule), lead, rule, number + 1, at, policy)
    return person, (command, *more)


def _with_issued(person: Person, command: SendFollowUp, rule: Rule) -> Person:
    issued = Issued(command.lead_id, command.rule, command.step, command.not_after, tuple(sorted(rule.cancel_on)))
    return replace(person, issued=(*person.issued, issued))


def without_sent(person: Person, sent_command_id: str | None) -> Person:
    """Drop the issued step, because it was sent and can no longer be cancelled."""
    left = tuple(
        issued for issued in person.issued if command_id(issued.lead_id, issued.rule, issued.step) != sent_command_id
    )
    return person if len(left) == len(person.issued) else replace(person, issued=left)


def cancel(person: Person, reason: Cancellation, rules: Rules, happened_at: datetime, at: datetime) -> Planned:
    """Cancel steps that are issued and may still wait, that are scheduled, or that wait for a lead's answers.

    What happened before a lead ended does not touch its follow-ups. Where another app took the thread, only what is
    issued is cancelled: the rest is cancelled when it is due, unless the thread is ours again by then. Of a command
    that was issued, the cancellation is a second record with the same id and the same key, so that every reader gets it
    after the command.
    """
    person = person.with_intervention(reason, happened_at)
    ended = [state for state in person.leads if happened_at >= flow_ended_at(state.lead)]
    if reason == "control_lost":
        commands: list[SendFollowUp] = []
        for state in ended:
            person, cancelled = _cancel_issued(person, state.lead, reason, at)
            commands += cancelled
        return person, tuple(commands)
    return _cancel(person, ended, reason, rules, at)


def heed(person: Person, event: Said, policy: Policy) -> Planned:
    """Note a stop or a start word; a stop word cancels everything, whatever a rule says.

    Whatever an opted-out person writes gives a notice once more, because the send sink forgets in time.
    """
    before, at = person, event.received_at
    person = with_words(person, event, policy.page)
    if not person.is_opted_out and not before.is_opted_out:
        return person, ()
    told = notice(person, event.event_id, at)
    states = person.leads if person.is_opted_out and person.opted_out_at != before.opted_out_at else ()
    person, ended = _cancel(person, states, OPTED_OUT, policy.rules, at)
    return person, (*ended, told)


def _opt_in_by_flow(person: Person, lead: Lead, at: datetime) -> Planned:
    """Somebody who finished a flow after they opted out may be written to again."""
    finished = with_finished_flow(person, lead)
    return finished, (notice(finished, lead.lead_id, at),) if person.is_opted_out > finished.is_opted_out else ()


def block(person: Person, rules: Rules, at: datetime) -> Planned:
    """Cancel the same for every lead and rule, because Meta blocks the Page.

    After a crash a worker may apply a block again: steps that a lead started after the block stay.
    """
    until_then = [state for state in person.leads if state.lead.updated_at <= at]
    return _cancel(person, until_then, PAGE_BLOCKED, rules, at)


def end_all(person: Person, state: LeadState, rules: Rules, at: datetime) -> Planned:
    """Cancel what is scheduled for a lead and what waits for it; a command that was issued stays as it is."""
    person, ended = _cancel_pending(person, state, SHED, rules, at)
    scheduled = tuple(waiting for waiting in person.scheduled if waiting.lead_id != state.lead.lead_id)
    return replace(person, scheduled=scheduled), ended


def _cancel(person: Person, states: Iterable[LeadState], reason: CancelReason, rules: Rules, at: datetime) -> Planned:
    commands: list[SendFollowUp] = []
    for state in states:
        person, cancelled = _cancel_issued(person, state.lead, reason, at)
        person, ended = _cancel_pending(person, state, reason, rules, at)
        commands += (*cancelled, *ended)
    return person, tuple(commands)


def _is_meant(reason: CancelReason, cancel_on: Collection[Cancellation]) -> bool:
    return reason not in get_args(Cancellation) or reason in cancel_on


def _cancel_issued(person: Person, lead: Lead, reason: CancelReason, at: datetime) -> Planned:
    recalled = [
        issued for issued in person.issued if issued.lead_id == lead.lead_id and _is_meant(reason, issued.cancel_on)
    ]
    commands = tuple(cancel_of(lead, issued.rule, issued.step, issued.not_after, reason, at) for issued in recalled)
    return replace(person, issued=tuple(issued for issued in person.issued if issued not in recalled)), commands


def _cancel_pending(person: Person, state: LeadState, reason: CancelReason, rules: Rules, at: datetime) -> Planned:
    lead = state.lead
    scheduled = {waiting.rule: waiting.step for waiting in person.scheduled if waiting.lead_id == lead.lead_id}
    meant = [rule for rule in rules if _is_meant(reason, rule.cancel_on)]
    waits = not lead.closed or is_awaited(person, lead.lead_id)
    names = {rule.name for rule in meant if rule.name in scheduled or (waits and _is_open(rule, state))}
    person = replace(
        person.with_lead(replace(state, planned=tuple(dict.fromkeys((*state.planned, *sorted(names)))))),
        scheduled=tuple(
            waiting for waiting in person.scheduled if waiting.lead_id != lead.lead_id or waiting.rule not in names
        ),
    )
    ended = (rule.name for rule in rules if rule.name in names)
    return person, tuple(cancel_of(lead, name, scheduled.get(name, 1), not_after(lead), reason, at) for name in ended)


def _is_open(rule: Rule, state: LeadState) -> bool:
    return rule.name not in state.planned and rule.concerns(state.lead)


def _with_windows_of(person: Person, lead: Lead) -> Lead:
    """The lead with its present windows: a later message of the person opened the messaging window again."""
    wrote_at = person.last_user_message_at
    closed_at = lead.messaging_window_closes_at
    return replace(
        lead,
        messaging_window_closes_at=closed_at if wrote_at is None else max(closed_at, closes_at(wrote_at)),
        thread_control_expires_at=person.thread_control_expires_at,
    )
