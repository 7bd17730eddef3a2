"""A small driver in the place of Faust and our transport: the same steps of split and join, in the same order.

docs/simulation.md lists its limits.
"""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from types import SimpleNamespace
from typing import Any

from aiokafka import TopicPartition
from aiokafka.errors import CommitFailedError

from leads.erasures import Erasures
from leads.pages import Pages
from leads.rules import Rule
from runtime.clock import now
from runtime.dead_letter import DEAD_LETTERS_A_MINUTE, DeadLetterLimit
from runtime.health import Health
from runtime.metrics import Metrics
from runtime.settings import Settings
from runtime.topic_reading import read_until, whole_topic
from runtime.tracing import OFF
from schemas.codec import BUILT_IN
from schemas.topics import ERASURES, EVENTS, JOIN_STATE, WEBHOOKS
from streams.app import join_batch
from streams.engine.delivery_order import DeliveryOrder
from streams.engine.producer import Producer
from streams.join import Joins
from streams.split import Splitting
from tests.simulation.broker import Broker
from tests.simulation.consumer import SimulatedConsumer
from tests.simulation.log import Stored
from tests.simulation.producer import SimulatedProducer

_COMMIT_SECONDS, _REPORT_SECONDS, _REGISTER_SECONDS = 0.5, 2.0, 1.0


class StreamsProducer(Producer):
    """The product's producer over a simulated client, without Faust's service around it."""

    request_timeout = 60.0

    def __init__(self, broker: Broker, consumer: SimulatedConsumer) -> None:
        self.app = SimpleNamespace(tracing=OFF, consumer=SimpleNamespace(failure=None, lease=consumer.lease))
        self._simulated = SimulatedProducer(broker, linger=0.01, may_write=self._wait_for_lease)
        self._unacked: set[Any] = set()
        self._failure: BaseException | None = None

    async def start(self) -> None:
        await self._simulated.start()

    def _ensure_producer(self) -> SimulatedProducer:
        return self._simulated


class Streams:
    """A worker of `leadstream streams`; `run` ends only by an exception, as the process would end."""

    def __init__(
        self, broker: Broker, settings: Settings, pages: Pages, rules: Sequence[Rule], metrics: Metrics
    ) -> None:
        self._settings, self._broker = settings, broker
        self._consumer = SimulatedConsumer(broker, group=settings.topic("leadstream"), idle=0.5)
        self.producer = StreamsProducer(broker, self._consumer)
        self._erasures, self._register = Erasures(), SimulatedConsumer(broker)
        self._store = SimpleNamespace(
            parts={}, epoch=0, put=self._put, changelog_topic_name=settings.topic(JOIN_STATE.name)
        )
        consumer = SimpleNamespace(ends=lambda: dict(self._ends))
        app: Any = SimpleNamespace(producer=self.producer, consumer=consumer, reach=SimpleNamespace(anew={}))
        limit, health = DeadLetterLimit(DEAD_LETTERS_A_MINUTE), Health()
        store: Any = self._store
        self._splitting = Splitting(app, settings, pages, self._erasures, limit, metrics, health, BUILT_IN)
        self._joins = Joins(
            app,
            store,
            settings,
            pages,
            tuple(rules),
            self._erasures,
            limit,
            metrics,
            health,
            BUILT_IN,
        )
        self._ends: dict[TopicPartition, datetime | None] = {}
        self._orders: dict[TopicPartition, DeliveryOrder] = {}
        self._turn = asyncio.Lock()
        self._recovers = True

    def _put(self, partition: int, key: str, value: bytes | None) -> None:
        part = self._store.parts.setdefault(partition, {})
        if value is None:
            part.pop(key, None)
        else:
            part[key] = value

    async def run(self, stop: asyncio.Event) -> None:
        for client in (self.producer, self._consumer, self._register):
            await client.start()
        async for records in whole_topic(
            self._register, self._settings.topic(ERASURES.name), self._settings.partitions
        ):
            self._note(records)
        topics = [self._settings.topic(topic.name) for topic in (WEBHOOKS, EVENTS)]
        self._consumer.subscribe(topics=topics, listener=self)
        working = (self._read(), self._commit_often(), self._report(), self._follow_register(), stop.wait())
        tasks = [asyncio.ensure_future(work) for work in working]
        for task in tasks:
            # Several may fail at once, and one fault ends the worker.
            task.add_done_callback(lambda done: done.cancelled() or done.exception())
        done, _ = await asyncio.wait(tasks, return_when="FIRST_COMPLETED")
        for task in done:
            task.result()
        async with self._turn:
            await self._commit()
        await self._consumer.stop()

    def _note(self, records: Sequence[Stored]) -> None:
        for record in records:
            self._erasures.note(record.key, record.value)

    async def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
        async with self._turn:
            await self._commit()
            self._recovers = True
            self._ends, self._orders = {}, {}

    async def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        self._recovers = True

    async def _read(self) -> None:
        while True:
            asked_at = now()
            batches = await self._consumer.getmany(timeout_ms=100)
            async with self._turn:
                if self._recovers:
                    # Fetched records may be from before the rebalance; the positions go back to the committed ones.
                    await self._recover()
                    continue
                await self._work(batches)
                for place in self._orders:
                    is_done = place in self._consumer.at_end and place not in batches
                    self._ends[place] = asked_at if is_done else None

    async def _recover(self) -> None:
        held = sorted(self._consumer.assignment())
        self._recovers = False
        self._store.parts.clear()
        self._ends = {}
        self._orders = {place: DeliveryOrder() for place in held}
        changelog = self._store.changelog_topic_name
        reader = SimulatedConsumer(self._broker)
        places = [TopicPartition(changelog, number) for number in sorted({place.partition for place in held})]
        reader.assign(places)
        await reader.seek_to_beginning(*places)
        async for records in read_until(reader, await reader.end_offsets(places)):
            for record in records:
                self._put(record.partition, record.key.decode(), record.value)
        self._store.parts = {place.partition: self._store.parts.get(place.partition, {}) for place in places}
        self._store.epoch += 1
        starts = await self._consumer.beginning_offsets(held)
        for place in held:
            self._consumer.seek(place, await self._consumer.committed(place) or starts[place])

    async def _work(self, batches: Mapping[TopicPartition, Sequence[Stored]]) -> None:
        raw = self._settings.topic(WEBHOOKS.name)
        of_split = [(place, records) for place, records in batches.items() if place.topic == raw]
        of_join = [(place, records) for place, records in batches.items() if place.topic != raw]
        for place, records in batches.items():
            self._orders[place].delivered(records[-1].offset)
        await asyncio.gather(self._split(of_split), self._join(of_join))

    async def _split(self, batches: Sequence[tuple[TopicPartition, Sequence[Stored]]]) -> None:
        for place, records in batches:
            await self._splitting.split(place.partition, records)
            self._finished(place, records)

    async def _join(self, batches: Sequence[tuple[TopicPartition, Sequence[Stored]]]) -> None:
        for place, records in batches:
            await join_batch(self._joins, place.partition, records)
            self._finished(place, records)

    def _finished(self, place: TopicPartition, records: Sequence[Stored]) -> None:
        self._orders[place].finished(records[-1].offset)

    async def _commit_often(self) -> None:
        while True:
            await asyncio.sleep(_COMMIT_SECONDS)
            await self._commit()

    async def _commit(self) -> None:
        # Chosen before the flush, so that it covers their outputs.
        offsets = {place: order.committable for place, order in self._orders.items() if order.committable is not None}
        await self.producer.flush()
        if offsets:
            try:
                await self._consumer.commit(offsets)
            except CommitFailedError:
                # The next holder reads from the last commit.
                return

    async def _report(self) -> None:
        while True:
            await self._splitting.report_progress()
            await asyncio.sleep(_REPORT_SECONDS)

    async def _follow_register(self) -> None:
        while True:
            for records in (await self._register.getmany(timeout_ms=0)).values():
                self._note(records)
            await asyncio.sleep(_REGISTER_SECONDS)
