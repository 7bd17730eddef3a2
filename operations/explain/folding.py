"""The events of one person folded again by the join's own rules: what each of them did, and why it did nothing."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from leads.careful import LeftOut, take_turn_carefully
from leads.facts import JoinEvent, Progress
from leads.pages import Page
from leads.person import Person
from leads.reasons import IgnoredEvent
from leads.records import Lead, LeadId, command_id
from leads.rules import Policy, Rules
from leads.shard import Fold, Shard
from operations.explain.timeline import Place


class PlannedStep(NamedTuple):
    """A step of a rule that was set going at `at`, and is due later."""

    at: datetime
    lead_id: LeadId
    rule: str
    step: int
    due_at: datetime

    @property
    def command_id(self) -> str:
        return command_id(self.lead_id, self.rule, self.step)


@dataclass(slots=True)
class Folded:
    """`ignored` and `lead_of` are by the place of an event; `revisions` by lead id and number."""

    person: Person | None = None
    ignored: dict[Place, IgnoredEvent] = field(default_factory=dict)
    lead_of: dict[Place, LeadId] = field(default_factory=dict)
    revisions: dict[tuple[str, int], Lead] = field(default_factory=dict)
    planned: dict[str, PlannedStep] = field(default_factory=dict)


def fold(events: Mapping[Place, JoinEvent], page: Page, rules: Rules, until: datetime) -> Folded:
    """What the events of one person, and of their Page, give by these settings and rules until then.

    The settings may have changed since: the topics say what was given at the time.
    """
    folded, people = Folded(), dict[str, Person]()
    if not events:
        return folded
    # Of one person, the order of their own events is the order of receipt.
    raw_partition = next(iter(events.values())).origin.partition
    shard = Shard(people, lambda _: Policy(page, rules), raw_partition_of=lambda _: raw_partition)
    for place, event in events.items():
        done = _take(shard, place.offset, event, folded, place)
        if done.ignored:
            folded.ignored[place] = done.ignored[-1]
    _take(shard, 0, Progress(((raw_partition, until),)), folded)
    folded.person = next(iter(people.values()), None)
    return folded


def _take(shard: Shard, offset: int, event: JoinEvent | Progress, folded: Folded, place: Place | None = None) -> Fold:
    done = Fold()
    for turn in shard.order([(offset, event)], done):
        raised: list[LeftOut] = []
        steps = take_turn_carefully(turn, lambda _: None, raised)
        shard.settle(turn, steps, done)
        for waiting in steps[-1].person.scheduled:
            if waiting not in turn.person.scheduled:
                planned = PlannedStep(turn.until, waiting.lead_id, waiting.rule, waiting.step, waiting.due_at)
                folded.planned[planned.command_id] = planned
        if place is not None and turn.event is not None and not turn.is_block and not raised:
            for lead in (output for output in steps[-1].outputs if isinstance(output, Lead)):
                folded.lead_of[place] = lead.lead_id
    folded.revisions |= {(lead.lead_id, lead.revision): lead for lead in done.outputs if isinstance(lead, Lead)}
    return done
