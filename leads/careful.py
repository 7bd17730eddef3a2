"""A turn in which something is known to raise: each step that raises is left out and named.

The person stays as they were before that step, so every careful reading of the same log gives the same.
"""

from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import NamedTuple

from msgspec.structs import replace

from leads.facts import JoinEvent
from leads.join import Step, advance, block, elapse
from leads.person import Person, folded
from leads.rules import Policy
from leads.turns import Turn

# Raises what publishing a step would raise.
Trial = Callable[[Step], object]


class LeftOut(NamedTuple):
    """The exception of a step: of `event`, or of a deadline where that is None."""

    person: Person
    event: JoinEvent | None
    fault: Exception


def take_turn_carefully(turn: Turn, trial: Trial, left_out: list[LeftOut]) -> list[Step]:
    """As `take_turn`; each deadline that raises is added to `left_out`, and so is the event, and the rest goes on."""
    event = turn.event
    if event is None:
        return _elapse(turn.person, turn.until, turn.policy, trial, left_out)

    def work(before: Person) -> Step:
        return block(before, turn.until, turn.policy) if turn.is_block else advance(before, event, turn.policy)

    person = turn.person if turn.is_block else folded(turn.person, event)
    steps = _elapse(person, turn.until, turn.policy, trial, left_out)
    step = _tried(work, steps[-1].person, event, trial, left_out)
    return steps if step is None else [*steps, step]


def _elapse(person: Person, until: datetime, policy: Policy, trial: Trial, left_out: list[LeftOut]) -> list[Step]:
    """As `elapse`, one deadline at a time; what is due at a deadline that raises ends without an output."""
    steps: list[Step] = []
    while (moment := min(person.deadlines, default=None)) is not None and moment <= until:
        step = _tried(partial(elapse, until=moment, policy=policy), person, None, trial, left_out)
        steps.append(step or Step(_without_due(person, moment)))
        person = steps[-1].person
    return [*steps, elapse(person, until, policy)]


def _tried(
    work: Callable[[Person], Step], person: Person, event: JoinEvent | None, trial: Trial, left_out: list[LeftOut]
) -> Step | None:
    try:
        step = work(person)
        trial(step)
    except MemoryError:
        raise
    except Exception as fault:  # noqa: BLE001 - nobody can foresee the exception; the caller names it
        left_out.append(LeftOut(person, event, fault))
        return None
    return step


def _without_due(person: Person, moment: datetime) -> Person:
    """Nothing of the person is due at that moment any more: no step is issued and no revision published."""
    leads = tuple(
        replace(state, lead=replace(state.lead, closed=True, close_reason="join_wait"))
        if not state.lead.closed and state.closes_at == moment
        else state
        for state in person.leads
    )
    scheduled = tuple(waiting for waiting in person.scheduled if waiting.due_at != moment)
    awaited = tuple(awaited for awaited in person.awaited if awaited.until != moment)
    return replace(person, leads=leads, scheduled=scheduled, awaited=awaited)
