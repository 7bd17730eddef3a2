"""The join's steps, one person at a time, when one of them is known to raise: what raises is left out and named.

The person stays as they were without it, so that every reading that is careful there gives the same.
"""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import NamedTuple

from leads.facts import JoinEvent
from leads.join import Step, advance, block, elapse
from leads.person import Person
from leads.rules import Policy

# Raises what publishing a step would raise.
Trial = Callable[[Step], object]


class LeftOut(NamedTuple):
    """What raised: the work on `event`, or a deadline where that is None."""

    person: Person
    event: JoinEvent | None
    fault: Exception


def advance_carefully(person: Person, event: JoinEvent, policy: Policy, trial: Trial, left_out: list[LeftOut]) -> Step:
    """As `advance`; the event is left out if it raises, and so is each deadline before it that does."""
    before = elapse_carefully(person, event.received_at, policy, trial, left_out)
    try:
        step = advance(before.person, event, policy)
        trial(step)
    except MemoryError:
        raise
    except Exception as fault:  # noqa: BLE001 - the exception is nobody's to foresee; the caller names it
        left_out.append(LeftOut(before.person, event, fault))
        return before
    return Step(step.person, before.outputs + step.outputs, step.ignored, before.shed + step.shed)


def block_carefully(person: Person, event: JoinEvent, policy: Policy, trial: Trial, left_out: list[LeftOut]) -> Step:
    """As `block` at the event's receipt; the person stays as they are if it raises."""
    before = elapse_carefully(person, event.received_at, policy, trial, left_out)
    try:
        step = block(before.person, event.received_at, policy)
        trial(step)
    except MemoryError:
        raise
    except Exception as fault:  # noqa: BLE001 - as above
        left_out.append(LeftOut(before.person, event, fault))
        return before
    return Step(step.person, before.outputs + step.outputs)


def elapse_carefully(person: Person, until: datetime, policy: Policy, trial: Trial, left_out: list[LeftOut]) -> Step:
    """As `elapse`; what is due at a moment that raises is ended without a word."""
    done = Step(person)
    while (moment := min(done.person.deadlines, default=None)) is not None and moment <= until:
        try:
            step = elapse(done.person, moment, policy)
            trial(step)
        except MemoryError:
            raise
        except Exception as fault:  # noqa: BLE001 - as above
            left_out.append(LeftOut(done.person, None, fault))
            step = Step(_without_due(done.person, moment))
        done = Step(step.person, done.outputs + step.outputs, shed=done.shed + step.shed)
    last = elapse(done.person, until, policy)
    return Step(last.person, done.outputs + last.outputs, shed=done.shed)


def _without_due(person: Person, moment: datetime) -> Person:
    """Nothing of the person is due at that moment any more: no step is issued and no revision published."""
    leads = tuple(
        replace(state, lead=replace(state.lead, closed=True, close_reason="join_wait"))
        if not state.lead.closed and state.closes_at == moment
        else state
        for state in person.leads
    )
    return replace(person, leads=leads, scheduled=tuple(one for one in person.scheduled if one.due_at != moment))
