"""The steps of an erasure, each of which a second run repeats without harm."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from time import monotonic
from typing import Any

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from leads.erasures import erasure_record, salt_record
from leads.facts import ITSELF, PersonErased
from messenger.events import PageId, Psid, person_key
from operations.deployment import Deployment
from operations.reporting import OperationError
from runtime import kafka
from runtime.clock import from_millis, now
from runtime.cluster import admin_client
from runtime.consumer_groups import members_of
from runtime.kafka import partition_of
from runtime.topic_reading import records_now
from schemas.codec import Codec, NotDecodable, event_codec, lead_codec, outcome_codec
from schemas.fact_record import fact_record
from schemas.topics import DELIVERIES, ERASURES, EVENTS, JOIN_STATE, LEADS, OUTCOMES, WEBHOOKS, Topic
from sinks.deliver.payload import erasure_of
from sinks.deliver.records import Delivery, encode, entry_of
from streams.state import PEOPLE

_CLIENT = "leadstream-erase"
_SALT_BYTES = 32
# Longer than any worker takes to read an entry of the register.
_READ_BY_ALL = timedelta(seconds=1.5)
_POLL_EVERY = 0.1
# The sinks that keep something of a person themselves.
_GROUPS: Mapping[str, str] = {"sink send": "leadstream-send", "sink warehouse": "leadstream-warehouse"}


@dataclass(frozen=True, slots=True)
class Person:
    page_id: PageId
    psid: Psid

    @property
    def key(self) -> bytes:
        return person_key(self.page_id, self.psid).encode()


@dataclass(frozen=True, slots=True)
class Fact:
    """An erasure in `messenger-webhooks`, and its place; everything received up to `at` is ignored."""

    place: TopicPartition
    offset: int
    at: datetime


class NotPassed(OperationError):
    """A stage has not passed the erasure in time; the message names it."""

    def __init__(self, problem: str) -> None:
        super().__init__(f"{problem} Run the command again: it does the steps that are left.")


@dataclass(slots=True)
class Erasure:
    """One run, with its producer; each wait ends after `patience` seconds."""

    deployment: Deployment
    producer: AIOKafkaProducer
    patience: float

    @classmethod
    @asynccontextmanager
    async def on(cls, deployment: Deployment, patience: float) -> "AsyncIterator[Erasure]":
        async with kafka.producer(deployment.broker, client_id=_CLIENT) as producer:
            yield cls(deployment, producer, patience)

    async def declare(self, person: Person) -> tuple[Fact, int]:
        """Enter the person in the register, and publish the fact for the join and the sinks.

        Also returns the end of the person's changelog before the fact. The entry comes first, so that no stage takes in
        anything of the person from then on; it gets the broker's time at the end.
        """
        erasures = await self.deployment.erasures_now()
        salt = erasures.salt or secrets.token_bytes(_SALT_BYTES)
        began = from_millis((await self._register(*salt_record(salt))).timestamp)
        origin = await self._register(*erasure_record(salt, person.page_id, person.psid, began))
        await asyncio.sleep(_READ_BY_ALL.total_seconds())
        async with kafka.consumer(self.deployment.broker, group=None, client_id=_CLIENT) as consumer:
            changelog = self._partition_of(person, JOIN_STATE)
            end = (await consumer.end_offsets([changelog]))[changelog]
        fact = PersonErased(
            event_id=f"erased:{origin.partition}:{origin.offset}",
            page_id=person.page_id,
            psid=person.psid,
            event_at=began,
            received_at=began,
            origin=ITSELF,
        )
        record = fact_record(fact, event_codec(self.deployment.ids), now())
        ack = await self.producer.send_and_wait(self.deployment.topic(WEBHOOKS), **record._asdict())
        at = from_millis(ack.timestamp)
        await self._register(*erasure_record(salt, person.page_id, person.psid, at))
        return Fact(TopicPartition(ack.topic, ack.partition), ack.offset, at), end

    async def _register(self, key: bytes, value: bytes) -> Any:
        return await self.producer.send_and_wait(self.deployment.topic(ERASURES), value, key=key)

    def _partition_of(self, person: Person, topic: Topic) -> TopicPartition:
        number = partition_of(person.key, self.deployment.settings.partitions)
        return TopicPartition(self.deployment.topic(topic), number)

    async def until_the_join_has_passed(self, person: Person, fact: Fact, since: int) -> None:
        """Wait until the changelog shows the person's state gone, or newer than the fact. Raises `NotPassed`."""
        place, deadline = self._partition_of(person, JOIN_STATE), monotonic() + self.patience
        async with kafka.consumer(self.deployment.broker, group=None, client_id=_CLIENT) as consumer:
            consumer.assign([place])
            consumer.seek(place, since)
            while monotonic() < deadline:
                for record in (await consumer.getmany(place, timeout_ms=200)).get(place, ()):
                    if record.key == person.key and _is_past(record.value, fact):
                        return
        raise NotPassed("streams has not passed the erasure: is `leadstream streams` running, or behind?")

    async def end_of_events(self, person: Person) -> dict[TopicPartition, int]:
        """The end of the person's events, which lies behind the erasure once the join has passed it."""
        async with kafka.consumer(self.deployment.broker, group=None, client_id=_CLIENT) as consumer:
            ends: dict[TopicPartition, int] = await consumer.end_offsets([self._partition_of(person, EVENTS)])
        return ends

    async def until_sinks_have_passed(self, ends: Mapping[TopicPartition, int], names: Collection[str]) -> list[str]:
        """Wait for the sinks that run; returns those that have run here and do not run now, which will pass it later.

        Raises `NotPassed`.
        """
        absent, deadline = [], monotonic() + self.patience
        async with admin_client(self.deployment.broker, client_id=_CLIENT) as admin:
            for name in names:
                group = f"{self.deployment.settings.topic_prefix}{_GROUPS[name]}"
                while await members_of(admin, group) and not await _has_passed(admin, group, ends):
                    if monotonic() > deadline:
                        raise NotPassed(f"`leadstream {name}` has not passed the erasure: it is behind.")
                    await asyncio.sleep(_POLL_EVERY)
                if not await _has_passed(admin, group, ends) and await admin.list_consumer_group_offsets(group):
                    absent.append(name)
        return absent

    async def bury(self, person: Person, until: datetime, on_read: Callable[[int], None]) -> dict[TopicPartition, int]:
        """Write a tombstone for each key of the person in the compacted topics; returns the ends to be passed."""
        leads, outcomes = self.deployment.topic(LEADS), self.deployment.topic(OUTCOMES)
        ids = self.deployment.ids
        codecs: dict[str, Codec[Any]] = {leads: lead_codec(ids), outcomes: outcome_codec(ids)}
        keys: dict[tuple[TopicPartition, bytes], None] = {}
        async for record in records_now(self.deployment.broker, codecs, client_id=_CLIENT):
            on_read(1)
            place = (TopicPartition(record.topic, record.partition), record.key)
            if record.value is None:
                keys.pop(place, None)
                continue
            try:
                kept = codecs[record.topic].decode(record.value)
            except NotDecodable:
                continue
            known_at = kept.updated_at if record.topic == leads else kept.occurred_at
            if (kept.page_id, kept.psid) == (person.page_id, person.psid) and known_at <= until:
                keys[place] = None
        await self._tell_destinations({key for place, key in keys if place.topic == leads}, on_read)
        ends: dict[TopicPartition, int] = {}
        for partition, key in keys:
            ack = await self.producer.send_and_wait(partition.topic, None, key=key, partition=partition.partition)
            ends[partition] = max(ack.offset + 1, ends.get(partition, 0))
        return ends

    async def _tell_destinations(self, lead_ids: Collection[bytes], on_read: Callable[[int], None]) -> None:
        """Ask `sink deliver` to erase these leads wherever they were delivered, or may have been."""
        topic, told = self.deployment.topic(DELIVERIES), dict[bytes, tuple[int, Delivery]]()
        if not lead_ids:
            return
        async for record in records_now(self.deployment.broker, [topic], client_id=_CLIENT):
            on_read(1)
            entry = entry_of(record)
            if isinstance(entry, Delivery) and entry.lead_id.encode() in lead_ids:
                erasure = erasure_of(entry, now())
                number = partition_of(entry.lead_id.encode(), self.deployment.settings.partitions)
                told.setdefault(erasure.key, (number, erasure))
                if entry.kind == "erasure":
                    told[entry.key] = (number, entry)
        for number, erasure in told.values():
            if erasure.status == "due":
                await self.producer.send_and_wait(topic, encode(erasure), key=erasure.key, partition=number)


def _is_past(value: bytes | None, fact: Fact) -> bool:
    if value is None:
        return True
    marks = PEOPLE.decode(value).marks
    return any((mark.topic, mark.partition) == fact.place and mark.offset >= fact.offset for mark in marks)


async def _has_passed(admin: AIOKafkaAdminClient, group: str, ends: Mapping[TopicPartition, int]) -> bool:
    committed = await admin.list_consumer_group_offsets(group, partitions=list(ends))
    return all(partition in committed and committed[partition].offset >= end for partition, end in ends.items())
