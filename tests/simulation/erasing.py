"""An erasure in the middle: the steps of `operations.erase`, in their order, on simulated clients."""

import asyncio
from collections.abc import Callable, Collection
from datetime import datetime
from typing import Any

from aiokafka import TopicPartition

from leads.erasures import erasure_record, salt_record
from leads.facts import ITSELF, PersonErased
from messenger.events import PageId, Psid, person_key
from runtime.clock import from_millis, now
from runtime.kafka import partition_of
from schemas.codec import event_codec, lead_codec, outcome_codec
from schemas.fact_record import fact_record
from schemas.topics import DELIVERIES, ERASURES, EVENTS, JOIN_STATE, LEADS, OUTCOMES, WEBHOOKS
from sinks.deliver.payload import erasure_of
from sinks.deliver.records import Delivery, encode, entry_of
from streams.state import PEOPLE
from tests.simulation.broker import Broker
from tests.simulation.producer import SimulatedProducer

_SALT = b"salt of the simulation"


async def erase(broker: Broker, page_id: PageId, psid: Psid) -> None:
    """Declare the erasure, wait for the join and the sinks, and write the tombstones."""
    producer, key = SimulatedProducer(broker), person_key(page_id, psid).encode()
    await producer.start()
    changelog = TopicPartition(JOIN_STATE.name, partition_of(key, broker.partitions))
    since = len(broker.log(changelog).written)
    ack = await _declare(producer, page_id, psid)

    def is_joined() -> bool:
        changes = [record for record in broker.log(changelog).written[since:] if record.key == key]
        return any(record.value is None or _is_past(record.value, ack) for record in changes)

    await _until(is_joined)
    end = broker.log(events := TopicPartition(EVENTS.name, changelog.partition)).end

    def have_passed() -> bool:
        groups = [broker.groups[name].committed.get(events) for name in ("leadstream-send", "leadstream-warehouse")]
        return all(committed is not None and committed.offset >= end for committed in groups)

    await _until(have_passed)
    keys = _keys(broker, page_id, psid, from_millis(ack.timestamp))
    await _tell_destinations(broker, producer, {key for place, key in keys if place.topic == LEADS.name})
    for place, buried in keys:
        await producer.send_and_wait(place.topic, None, key=buried, partition=place.partition)


async def _until(holds: Callable[[], bool]) -> None:
    while not holds():  # noqa: ASYNC110 - as the command itself, which asks Kafka again and again
        await asyncio.sleep(0.5)


async def _declare(producer: SimulatedProducer, page_id: PageId, psid: Psid) -> Any:
    salted = await producer.send_and_wait(ERASURES.name, salt_record(_SALT)[1], key=salt_record(_SALT)[0])
    began = from_millis(salted.timestamp)
    entry = erasure_record(_SALT, page_id, psid, began)
    origin = await producer.send_and_wait(ERASURES.name, entry[1], key=entry[0])
    await asyncio.sleep(1.5)
    fact = PersonErased(
        event_id=f"erased:{origin.partition}:{origin.offset}",
        page_id=page_id, psid=psid, event_at=began, received_at=began, origin=ITSELF,
    )  # fmt: skip
    ack = await producer.send_and_wait(WEBHOOKS.name, **fact_record(fact, event_codec(), now())._asdict())
    entry = erasure_record(_SALT, page_id, psid, from_millis(ack.timestamp))
    await producer.send_and_wait(ERASURES.name, entry[1], key=entry[0])
    return ack


def _keys(broker: Broker, page_id: PageId, psid: Psid, at: datetime) -> list[tuple[TopicPartition, bytes | None]]:
    codecs: dict[str, Any] = {LEADS.name: lead_codec(), OUTCOMES.name: outcome_codec()}
    keys: dict[tuple[TopicPartition, bytes | None], None] = {}
    for topic, codec in codecs.items():
        for record in broker.records(topic):
            key = TopicPartition(topic, record.partition), record.key
            if record.value is None:
                keys.pop(key, None)
            elif _is_of(codec.decode(record.value), page_id, psid, at):
                keys[key] = None
    return list(keys)


async def _tell_destinations(broker: Broker, producer: SimulatedProducer, leads: Collection[bytes | None]) -> None:
    told: dict[bytes, Delivery] = {}
    for record in broker.records(DELIVERIES.name):
        entry = entry_of(record)
        if isinstance(entry, Delivery) and entry.lead_id.encode() in leads:
            erasure = erasure_of(entry, now())
            told.setdefault(erasure.key, erasure)
            if entry.kind == "erasure":
                told[entry.key] = entry
    for key, erasure in told.items():
        if erasure.status == "due":
            number = partition_of(erasure.lead_id.encode(), broker.partitions)
            await producer.send_and_wait(DELIVERIES.name, encode(erasure), key=key, partition=number)


def _is_past(value: bytes, ack: Any) -> bool:
    marks = PEOPLE.decode(value).marks
    return any((mark.topic, mark.partition) == ack.topic_partition and mark.offset >= ack.offset for mark in marks)


def _is_of(kept: Any, page_id: PageId, psid: Psid, at: datetime) -> bool:
    known_at = kept.updated_at if hasattr(kept, "updated_at") else kept.occurred_at
    return bool((kept.page_id, kept.psid) == (page_id, psid) and known_at <= at)
