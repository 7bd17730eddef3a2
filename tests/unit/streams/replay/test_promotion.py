"""What is handed to the join, and how it is known what became of it."""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest
from aiokafka import TopicPartition
from msgspec.structs import replace

from leads.person import Person
from leads.records import Lead, LeadId, LeadState
from messenger.events import Origin
from runtime.clock import to_millis
from schemas.codec import event_codec, lead_codec
from streams.replay.promotion import follow, promotions, read_states
from streams.replay.shadow import Extent, compare
from streams.split import split
from streams.state import PEOPLE
from tests.builders import CITY, MINUTE, NOON, PAGE, PERSON, a_lead
from tests.unit.streams.replay.test_shadow import ARecord, reading_of

pytestmark = pytest.mark.anyio

EXTENT = Extent(since=NOON, until=NOON + 10 * MINUTE)
OTHER = LeadId("8d6c0c1e-0000-5000-8000-000000000002")
LEADS = TopicPartition("leads", 0)


async def promoted(
    live: Sequence[Lead], replayed: Sequence[Lead], states: Mapping[LeadId, LeadState] | None = None
) -> Any:
    present = await reading_of(*live)
    comparison = compare(present, await reading_of(*replayed))
    return promotions(comparison, present, states or {}, "fix-7", NOON)


async def test_a_lead_that_differs_is_promoted_against_its_newest_revision() -> None:
    better = a_lead(revision=2, answers=(CITY,))

    facts = await promoted([a_lead(revision=3)], [better, a_lead(lead_id=OTHER)])

    assert [(fact.state.lead, fact.replaces) for fact in facts] == [(better, 3), (a_lead(lead_id=OTHER), 0)]


async def test_a_promotion_has_what_the_replay_remembered_and_not_what_its_rules_did() -> None:
    state = LeadState(a_lead(), ("handover:1",), NOON, referral_answers=(CITY,), planned=("thanks",))

    [fact] = await promoted([], [a_lead()], {a_lead().lead_id: state})

    assert fact.state == replace(state, planned=())


async def test_a_lead_that_has_gone_on_or_that_only_the_present_has_stays() -> None:
    gone_on = a_lead(revision=2, updated_at=EXTENT.until)

    assert await promoted([a_lead(), gone_on, a_lead(lead_id=OTHER)], [a_lead(answers=(CITY,))]) == []


async def test_after_a_promotion_nothing_differs() -> None:
    live = await reading_of(a_lead(), a_lead(revision=2, answers=(CITY,)))

    assert compare(live, await reading_of(a_lead(answers=(CITY,)))).found == []


async def test_a_promotion_is_received_when_the_broker_appends_it_and_is_its_own_origin() -> None:
    [fact] = await promoted([], [a_lead()])
    record = ARecord(event_codec().encode(fact), timestamp=to_millis(NOON + MINUTE), partition=3, offset=41)

    [received] = split([record], {}).events

    assert (received.received_at, received.origin) == (NOON + MINUTE, Origin("leads", 3, 41))


async def test_states_are_read_of_the_wanted_leads_only() -> None:
    one, other = (LeadState(a_lead(lead_id=lead), (), NOON) for lead in (a_lead().lead_id, OTHER))
    person = Person(page_id=PAGE, psid=PERSON, leads=(one, other), touched_at=NOON)

    async def runs() -> AsyncIterator[Sequence[Any]]:
        yield [ARecord(PEOPLE.encode(person))]

    assert await read_states(runs(), {OTHER: None}) == {OTHER: other}


@dataclass
class ATopic:
    """A consumer of `leads` that gives these records in one run, from the offset that was sought."""

    records: Sequence[Lead]
    begin: int = 0
    asked: list[int] = field(default_factory=list)

    def assign(self, partitions: Sequence[TopicPartition]) -> None:
        assert partitions == [LEADS]

    def seek(self, partition: TopicPartition, offset: int) -> None:
        self.begin = offset

    async def getmany(self, **_: object) -> dict[TopicPartition, list[ARecord]]:
        values = [ARecord(lead_codec().encode(record)) for record in self.records[self.begin :]]
        self.begin = len(self.records)
        return {LEADS: [*values, ARecord(None)]}


async def followed(live: Sequence[Lead], *later: Lead) -> Any:
    """What became of the promotion of a better lead, when `later` is published behind the `live` revisions."""
    facts = await promoted(live, [a_lead(answers=(CITY,))])
    counts: list[int] = []
    settled = await follow(
        facts,
        ATopic([*live, *later]),
        {LEADS: len(live)},
        lead_codec(),
        counts.append,
        patience=timedelta(milliseconds=50),
    )
    assert sum(counts) == len(settled.carried) + len(settled.overtaken)
    return settled


async def test_a_lead_whose_next_revision_has_the_values_was_carried_over() -> None:
    settled = await followed([a_lead()], a_lead(revision=2, answers=(CITY,)), a_lead(revision=3))

    assert (settled.carried, settled.overtaken) == ({a_lead().lead_id}, set())


async def test_a_lead_whose_next_revision_is_another_was_overtaken() -> None:
    settled = await followed([a_lead()], a_lead(revision=2), a_lead(revision=3, answers=(CITY,)))

    assert (settled.carried, settled.overtaken) == (set(), {a_lead().lead_id})


async def test_a_promotion_that_nobody_takes_up_is_not_waited_for_for_ever() -> None:
    settled = await followed([a_lead()], a_lead(lead_id=OTHER), a_lead())

    assert (settled.carried, settled.overtaken) == (set(), set())
