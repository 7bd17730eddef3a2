"""What would happen next, and when, if nothing else came before."""

from collections.abc import Iterator
from datetime import datetime, timedelta

from leads.person import Person, closes_at
from leads.records import OPTED_OUT, FollowUpOutcome, OutcomeStatus, SendFollowUp, is_notice
from operations.explain.records import Ground, Records
from operations.explain.timeline import Coming
from sinks.send.ledger import Attempt
from sinks.send.next_step import (
    Action,
    AskOwner,
    LookUp,
    Park,
    ReadOn,
    Send,
    Settle,
    Snapshot,
    Wait,
    next_step,
    over_quiet_hours,
)

_DAY = timedelta(days=1)
_OPEN: frozenset[OutcomeStatus] = frozenset({"attempting", "in_doubt", "parked"})
_ARRIVED: frozenset[OutcomeStatus] = frozenset({"sent", "delivered", "read"})
# As `leadstream sink send` has it by default.
_QUARANTINE = timedelta(seconds=20)


def coming(records: Records, person: Person | None, ground: Ground) -> tuple[Coming, ...]:
    """The deadlines of the join, the fates of open commands, and the ends of windows, soonest first."""
    found = [*_unread(records), *_of_commands(records, ground)]
    if person is not None:
        found += [*_of_person(person), *_of_windows(person, ground)]
    return tuple(sorted(found, key=lambda entry: (entry.at is None, entry.at or ground.now, entry.text)))


def _unread(records: Records) -> Iterator[Coming]:
    mark = records.state.mark if records.state is not None else -1
    unread = sum(place.offset > mark and event.psid is not None for place, event in records.events.items())
    if unread and records.erased_until is None:
        yield Coming(None, f"streams join {unread} events of the person that they have not come to")


def _of_person(person: Person) -> Iterator[Coming]:
    for state in person.leads:
        if not state.lead.closed:
            yield Coming(state.closes_at, f"lead {state.lead.lead_id} closes, unless all of its signals come before")
    for step in person.scheduled:
        yield Coming(step.due_at, f"rule {step.rule}, step {step.step}, is due for lead {step.lead_id}")
    for awaited in person.awaited:
        yield Coming(awaited.until, f"rules wait no longer for the transcript of lead {awaited.lead_id}")
    if person.is_opted_out:
        text = "nothing is sent until the person finishes a flow that began later, or sends a start word"
        yield Coming(None, text, OPTED_OUT)


def _of_windows(person: Person, ground: Ground) -> Iterator[Coming]:
    ends = [state.lead.messaging_window_closes_at for state in person.leads]
    if person.last_user_message_at is not None:
        ends.append(closes_at(person.last_user_message_at))
    if ends and max(ends) > ground.now:
        yield Coming(max(ends), "the messaging window closes, unless the person writes before")
    expires_at = person.thread_control_expires_at
    if expires_at is not None and expires_at > ground.now:
        yield Coming(expires_at, "thread control ends")


def _of_commands(records: Records, ground: Ground) -> Iterator[Coming]:
    newest: dict[str, FollowUpOutcome] = {outcome.command_id: outcome for outcome in records.outcomes.values()}
    commands = [command for command in records.commands.values() if not is_notice(command)]
    cancelled = {command.command_id: command.cancel_reason for command in commands if command.cancel_reason is not None}
    for command in commands:
        outcome = newest.get(command.command_id)
        # A command of which the ledger has nothing was issued, or only cancelled.
        if command.cancel_reason is None and (outcome is None or outcome.status in _OPEN):
            snapshot = _snapshot(command, outcome, cancelled.get(command.command_id), newest, ground)
            yield _of_action(next_step(snapshot), command, ground)


def _snapshot(
    command: SendFollowUp,
    outcome: FollowUpOutcome | None,
    cancel_reason: str | None,
    newest: dict[str, FollowUpOutcome],
    ground: Ground,
) -> Snapshot:
    """What the topics show of what the send sink would go by; the rest as if it stood in nothing's way."""
    parked = outcome.reason if outcome is not None and outcome.status == "parked" else None
    attempt = None if outcome is None else Attempt(outcome.attempt, outcome.occurred_at, parked)
    before = None if command.follows is None else newest.get(command.follows)
    arrived = [other for other in newest.values() if other.status in _ARRIVED and not is_notice(other)]
    others = [other for other in arrived if (other.lead_id, other.rule) != (command.lead_id, command.rule)]
    gap_from = max((other.occurred_at for other in others), default=None)
    lately = sum(other.occurred_at > ground.now - _DAY for other in arrived)
    return Snapshot(
        command=command,
        now=ground.now,
        quarantine=_QUARANTINE,
        calls_from=ground.now,
        attempt=attempt,
        cancel_reason=cancel_reason,
        may_follow=command.follows is None
        or (before is not None and before.status in (*_ARRIVED, "in_doubt", "attempting")),
        gap_until=gap_from + ground.page.min_gap if gap_from is not None else None,
        person_cap_reached=ground.caps.per_person is not None and lately >= ground.caps.per_person,
    )


def _of_action(action: Action, command: SendFollowUp, ground: Ground) -> Coming:
    step = f"rule {command.rule}, step {command.step}, of lead {command.lead_id}"
    match action:
        case Settle(status, reason):
            return Coming(None, f"{step} becomes {status} when the send sink comes to it", reason)
        case Wait(until):
            return _of_wait(step, command, until, ground.now)
        case Park(reason):
            return Coming(None, f"{step} waits", reason)
        case AskOwner():
            return Coming(None, f"{step} waits for the thread, until {_time(command.ends_at)}", "thread_of_another_app")
        case LookUp():
            return Coming(None, f"{step} is in doubt: its echo or the conversation settles it")
        case Send() | ReadOn() | _:
            return Coming(None, f"{step} is sent when the send sink comes to it, before {_time(command.ends_at)}")


def _of_wait(step: str, command: SendFollowUp, until: datetime, now: datetime) -> Coming:
    starts_at = max(now, command.not_before)
    if over_quiet_hours(command, starts_at) > starts_at:
        return Coming(until, f"{step} waits for the end of its quiet hours", "quiet_hours")
    if until == command.not_before:
        return Coming(until, f"{step} is due")
    return Coming(until, f"{step} waits: the result of its call may still come, or the last message is too fresh")


def _time(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S}"
