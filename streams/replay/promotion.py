"""Promotion: write the better leads of a replay as facts for the live join, and report the result of each."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition
from msgspec.structs import replace

from leads.facts import ITSELF, LeadPromoted
from leads.records import Lead, LeadId, LeadState
from runtime.clock import now
from runtime.settings import Settings
from schemas.codec import Codec, Ids, event_codec
from schemas.fact_record import fact_record
from schemas.topics import WEBHOOKS
from streams.replay.shadow import Comparison, Reading
from streams.state import PEOPLE

_READ = {"timeout_ms": 500, "max_records": 5000}


async def read_states(
    runs: AsyncIterator[Sequence[ConsumerRecord]], wanted: Mapping[LeadId, object]
) -> dict[LeadId, LeadState]:
    """The final state of these leads in the replay's join."""
    states: dict[LeadId, LeadState] = {}
    async for records in runs:
        for record in records:
            for state in PEOPLE.decode(record.value).leads:
                if state.lead.lead_id in wanted:
                    states[state.lead.lead_id] = state
    return states


def promotions(
    comparison: Comparison, live: Reading, states: Mapping[LeadId, LeadState], replay: str, at: datetime
) -> list[LeadPromoted]:
    """A fact for each lead that the replay knows better, against the newest revision that it is better than.

    A lead that has gone on since the replay's end is left out: its newest revision knows what the replay could not.
    """
    return [
        _promotion(
            difference.replayed,
            states.get(difference.lead.lead_id),
            live.last_revision.get(difference.lead.lead_id, 0),
            replay,
            at,
        )
        for difference in comparison.found
        if difference.replayed is not None and difference.lead.lead_id not in live.passed
    ]


def _promotion(lead: Lead, state: LeadState | None, replaces: int, replay: str, at: datetime) -> LeadPromoted:
    # Of a lead that the replay's join has forgotten, as the live one has, nothing but its record is left.
    state = LeadState(lead, (), closes_at=lead.updated_at) if state is None else replace(state, lead=lead, planned=())
    return LeadPromoted(
        # The same for every replay, so that of two promotions of one revision the first counts.
        event_id=f"lead_promoted:{lead.lead_id}:{replaces}",
        page_id=lead.page_id,
        psid=lead.psid,
        # It speaks of the lead from its beginning on, so that an erasure since then covers it.
        event_at=lead.first_seen_at,
        received_at=at,
        origin=ITSELF,
        state=state,
        replaces=replaces,
        provenance=replay,
    )


async def publish(facts: Sequence[LeadPromoted], producer: AIOKafkaProducer, settings: Settings, ids: Ids) -> None:
    """Write the facts to the log of their Pages; they are durable on return. Raises `KafkaError`."""
    codec, topic = event_codec(ids), settings.topic(WEBHOOKS.name)
    records = [fact_record(fact, codec, now()) for fact in facts]
    await asyncio.gather(*[await producer.send(topic, **record._asdict()) for record in records])


@dataclass(slots=True)
class Settled:
    """The results of promotions: the join published those in `carried`; those in `overtaken` met another revision."""

    carried: set[LeadId] = field(default_factory=set)
    overtaken: set[LeadId] = field(default_factory=set)


async def follow(
    facts: Sequence[LeadPromoted],
    consumer: AIOKafkaConsumer,
    begin: Mapping[TopicPartition, int],
    codec: Codec[Lead],
    on_settled: Callable[[int], None],
    *,
    patience: timedelta,
) -> Settled:
    """Read `leads` from `begin` until each of the leads has its next revision, or nothing settles for so long.

    `on_settled` gets counts.
    """
    waiting = {fact.state.lead.lead_id: fact for fact in facts}
    settled, clock = Settled(), asyncio.get_running_loop().time
    consumer.assign(list(begin))
    for partition, offset in begin.items():
        consumer.seek(partition, offset)
    last = clock()
    while waiting and clock() < last + patience.total_seconds():
        before = len(waiting)
        for records in (await consumer.getmany(**_READ)).values():
            for record in records:
                if record.value is not None:
                    _settle(codec.decode(record.value), waiting, settled)
        if len(waiting) < before:
            on_settled(before - len(waiting))
            last = clock()
    return settled


def _settle(lead: Lead, waiting: dict[LeadId, LeadPromoted], settled: Settled) -> None:
    fact = waiting.get(lead.lead_id)
    if fact is None or lead.revision <= fact.replaces:
        return
    wanted = replace(fact.state.lead, revision=fact.replaces + 1)
    (settled.carried if lead == wanted else settled.overtaken).add(lead.lead_id)
    del waiting[lead.lead_id]
