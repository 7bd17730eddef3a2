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
from leads.facts import PersonErased
from messenger.events import Origin, PageId, Psid, person_key
from operations.deployment import erasures_now
from runtime import kafka
from runtime.clock import from_millis
from runtime.cluster import Cluster
from runtime.consumer_groups import members_of
from runtime.settings import Settings
from runtime.topic_reading import records_now
from schemas.codec import Codec, Ids, NotDecodable, event_codec, lead_codec, outcome_codec
from schemas.state import person_codec
from schemas.topics import ERASURES, EVENTS, JOIN_STATE, LEADS, OUTCOMES

_CLIENT = "leadstream-erase"
_SALT_BYTES = 32
# Longer than any worker takes to hear of an entry in the register.
_HEARD_BY_ALL = timedelta(seconds=1.5)
_BETWEEN_LOOKS = 0.1
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
    """That somebody was erased, where it lies in `messenger-events`; everything up to `at` is dead."""

    place: TopicPartition
    offset: int
    at: datetime


class NotPassed(Exception):
    """A stage has not come past the erasure in time; the message says which, and is fit to print."""


@dataclass(slots=True)
class Erasure:
    """One run, with the clients that it needs."""

    settings: Settings
    broker: Cluster
    ids: Ids
    producer: AIOKafkaProducer
    patience: float

    @classmethod
    @asynccontextmanager
    async def on(cls, settings: Settings, broker: Cluster, ids: Ids, patience: float) -> "AsyncIterator[Erasure]":
        async with kafka.producer(broker, client_id=_CLIENT) as producer:
            yield cls(settings, broker, ids, producer, patience)

    async def declare(self, person: Person) -> tuple[Fact, int]:
        """Enter the person in the register, and tell the join and the sinks; also gives the end of the join's changelog
        before that.

        The entry comes first, so that nobody takes anything in of them any more; it gets the broker's time at the end.
        """
        known = await erasures_now(self.settings, self.broker)
        salt = known.salt or secrets.token_bytes(_SALT_BYTES)
        began = from_millis((await self._register(*salt_record(salt))).timestamp)
        origin = await self._register(*erasure_record(salt, person.page_id, person.psid, began))
        await asyncio.sleep(_HEARD_BY_ALL.total_seconds())
        async with kafka.consumer(self.broker, group=None, client_id=_CLIENT) as consumer:
            everywhere = [self._changelog(one) for one in range(self.settings.partitions)]
            changelog = await consumer.end_offsets(everywhere)
        fact = PersonErased(
            event_id=f"erased:{origin.partition}:{origin.offset}",
            page_id=person.page_id,
            psid=person.psid,
            event_at=began,
            received_at=began,
            origin=Origin(origin.topic, origin.partition, origin.offset),
        )
        topic = self.settings.topic(EVENTS.name)
        ack = await self.producer.send_and_wait(topic, event_codec(self.ids).encode(fact), key=person.key)
        at = from_millis(ack.timestamp)
        await self._register(*erasure_record(salt, person.page_id, person.psid, at))
        place = TopicPartition(ack.topic, ack.partition)
        return Fact(place, ack.offset, at), changelog[self._changelog(ack.partition)]

    async def _register(self, key: bytes, value: bytes) -> Any:
        return await self.producer.send_and_wait(self.settings.topic(ERASURES.name), value, key=key)

    def _changelog(self, partition: int) -> TopicPartition:
        return TopicPartition(self.settings.topic(JOIN_STATE.name), partition)

    async def until_the_join_has_passed(self, person: Person, fact: Fact, since: int) -> None:
        """Raises `NotPassed`. The changelog tells: the person's state is gone, or is one from after the fact."""
        place, codec, deadline = self._changelog(fact.place.partition), person_codec(), monotonic() + self.patience
        async with kafka.consumer(self.broker, group=None, client_id=_CLIENT) as consumer:
            consumer.assign([place])
            consumer.seek(place, since)
            while monotonic() < deadline:
                for record in (await consumer.getmany(place, timeout_ms=200)).get(place, ()):
                    if record.key == person.key and _is_past(record.value, codec, fact):
                        return
        raise NotPassed("streams has not passed the erasure: is `leadstream streams` running, or behind?")

    async def until_sinks_have_passed(self, ends: Mapping[TopicPartition, int], names: Collection[str]) -> list[str]:
        """Wait for the sinks that run; gives those that are known here and do not run, which will pass it later.

        Raises `NotPassed`.
        """
        absent, deadline = [], monotonic() + self.patience
        admin = AIOKafkaAdminClient(**self.broker.options, client_id=_CLIENT)
        await admin.start()
        try:
            for name in names:
                group = f"{self.settings.topic_prefix}{_GROUPS[name]}"
                while await members_of(admin, group) and not await _has_passed(admin, group, ends):
                    if monotonic() > deadline:
                        raise NotPassed(f"`leadstream {name}` has not passed the erasure: it is behind.")
                    await asyncio.sleep(_BETWEEN_LOOKS)
                if not await _has_passed(admin, group, ends) and await admin.list_consumer_group_offsets(group):
                    absent.append(name)
        finally:
            await admin.close()
        return absent

    async def bury(self, person: Person, until: datetime, on_read: Callable[[int], None]) -> dict[TopicPartition, int]:
        """Put an empty record over everything of the person in the compacted topics; gives the ends to be passed."""
        leads, outcomes = self.settings.topic(LEADS.name), self.settings.topic(OUTCOMES.name)
        codecs: dict[str, Codec[Any]] = {leads: lead_codec(self.ids), outcomes: outcome_codec(self.ids)}
        theirs: dict[tuple[TopicPartition, bytes], None] = {}
        async for record in records_now(self.broker, codecs, client_id=_CLIENT):
            on_read(1)
            place = (TopicPartition(record.topic, record.partition), record.key)
            if record.value is None:
                theirs.pop(place, None)
                continue
            try:
                kept = codecs[record.topic].decode(record.value)
            except NotDecodable:
                continue
            known_at = kept.updated_at if record.topic == leads else kept.occurred_at
            if (kept.page_id, kept.psid) == (person.page_id, person.psid) and known_at <= until:
                theirs[place] = None
        ends: dict[TopicPartition, int] = {}
        for one, key in theirs:
            ack = await self.producer.send_and_wait(one.topic, None, key=key, partition=one.partition)
            ends[one] = max(ack.offset + 1, ends.get(one, 0))
        return ends


def _is_past(value: bytes | None, codec: Any, fact: Fact) -> bool:
    if value is None:
        return True
    state = codec.decode(value)
    return state.mark >= fact.offset and not any(isinstance(one, PersonErased) for one in state.waiting)


async def _has_passed(admin: AIOKafkaAdminClient, group: str, ends: Mapping[TopicPartition, int]) -> bool:
    committed = await admin.list_consumer_group_offsets(group, partitions=list(ends))
    return all(one in committed and committed[one].offset >= end for one, end in ends.items())
