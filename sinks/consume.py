"""The loop of every sink: read, decode, hand over to the stage, and commit only what the stage has finished."""

import asyncio
import logging
import time
import traceback
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import CommitFailedError

from runtime.clock import from_millis, now
from runtime.dead_letter import DEAD_LETTERS_A_MINUTE, DeadLetterLimit, TooManyDeadLetters, dead_letter
from runtime.health import SET_ASIDE, Health
from runtime.lateness import Lateness
from runtime.losses import OutOfReach, Span
from runtime.mendable import Mendable
from runtime.metrics import Metrics
from runtime.reach import Reach
from runtime.suspect import Place
from runtime.tracing import OFF, Tracing, batch_span
from schemas.codec import NotDecodable
from sinks.kafka_watch import PART, watch_kafka
from sinks.outage import Outage
from sinks.record_faults import AtRecord, NotOfARecord, on_record
from sinks.suspects import Suspects

logger = logging.getLogger(__name__)

_POLL_MILLIS, _MOST_RECORDS = 100, 2000

T = TypeVar("T")


class Fenced(NotOfARecord):
    """Another process has written to our partition: its records stay, and we must read our state again."""


class Unusable(NotOfARecord, Mendable):
    """An operator has to repair something; the message names it and is safe to print."""


class Unavailable(Unusable):
    """A fault that may pass by itself, such as a server that restarts: try again later."""


class SinkCrashed(Exception):
    """An unforeseen fault ended the sink, and its offsets stay; the message names only the class of the fault."""


@dataclass(frozen=True, slots=True)
class Received(Generic[T]):
    """A record that could be read; `size` is the length of its value in bytes."""

    partition: TopicPartition
    offset: int
    record: T
    size: int = 0


@dataclass(frozen=True, slots=True)
class Source(Generic[T]):
    """How to read one topic. A record for which `read` raises `NotDecodable` goes to the topic `dead_letters`.

    `dead_letters` is None for a topic that holds dead letters. Tombstones are ignored, unless `read` takes them too.
    """

    read: Callable[[Any], T]
    dead_letters: str | None
    takes_tombstones: bool = False


class Stage(Protocol[T]):
    """The work of a sink on its records.

    `Consume` makes all calls from one task, one at a time: `open` after each assignment, then `take` and `tick` in
    turn, then `close`. Each may raise `Fenced` or `Unavailable`, after which the next call is `open`, or `Unusable`,
    which ends the sink. Any other exception ends it too; `AtRecord` names the record at fault. While a call waits, no
    other record is read and no rebalance ends.
    """

    async def open(self, spans: Mapping[TopicPartition, Span]) -> Mapping[TopicPartition, int]:
        """Hold exactly these partitions and forget all others; gives the offset from which to read each."""

    async def take(self, batch: Sequence[Received[T]], positions: Mapping[TopicPartition, int]) -> None:
        """Accept records; afterwards `unfinished` covers them. `positions` also pass records that were set aside."""

    async def tick(self) -> None:
        """Do what has fallen due, several times a second; raises the faults of tasks that it started earlier."""

    def unfinished(self) -> Mapping[TopicPartition, int]:
        """The lowest offset of each partition that must not be committed past. Called after each `tick` and `close`."""

    def full(self) -> Collection[TopicPartition]:
        """The partitions of which nothing more should be read for now."""

    async def close(self) -> None:
        """Finish what is under way and start nothing new; the rebalance waits, then `unfinished` is committed."""


class Consume(ConsumerRebalanceListener, Generic[T]):  # type: ignore[misc] # aiokafka is untyped
    """Carries the records of some topics to a stage until it is stopped.

    An offset is committed once the stage has finished everything before it, so that each record comes at least once.
    A record at which the sink has ended `MOST_ENDS` times, and a record at `skips`, becomes a dead letter unread.
    """

    def __init__(
        self,
        consumer: AIOKafkaConsumer,
        producer: AIOKafkaProducer,
        sources: Mapping[str, Source[T]],
        stage: Stage[T],
        *,
        name: str,
        metrics: Metrics,
        health: Health,
        clock: Callable[[], float] = time.monotonic,
        skips: Collection[Place] = (),
        reach: Reach,
        tracing: Tracing = OFF,
    ) -> None:
        self._consumer, self._producer = consumer, producer
        self._sources, self._stage = sources, stage
        self._name, self._metrics, self._health, self._tracing = name, metrics, health, tracing
        self._turn = asyncio.Lock()
        self._open_again = False
        self._outage = Outage(clock)
        self._leaving: asyncio.Future[None] | None = None
        self._positions: dict[TopicPartition, int] = {}
        self._committed: dict[TopicPartition, int] = {}
        self._lateness = Lateness()
        self._limit = DeadLetterLimit(DEAD_LETTERS_A_MINUTE)
        self._suspects, self._reach = Suspects(consumer, name, skips, reach), reach

    async def run(self, stop: asyncio.Event) -> None:
        """Run until `stop` is set, then finish what is under way and commit it. Called once.

        After `Unavailable` the sink is not ready, keeps its partitions, and opens them again after a pause. Raises
        `Unusable`, `OutOfReach`, or `SinkCrashed` for any other fault; then nothing more is committed.
        """
        self._health.report(self._name, ready=False, seen="waits for partitions")
        self._health.report(PART, ready=False, seen="not asked yet")
        self._consumer.subscribe(topics=list(self._sources), listener=self)
        known = self._positions, self._lateness
        watch = watch_kafka(self._consumer, *known, metrics=self._metrics, health=self._health)
        watching = asyncio.create_task(watch)
        try:
            while not stop.is_set():
                batches = await self._fetched()
                async with self._turn:
                    await self._advance(batches)
                if watching.done():
                    watching.result()
            async with self._turn:
                await self._give_up()
        except (Unusable, OutOfReach) as fault:
            self._health.crashed = str(fault)
            raise
        except AtRecord as fault:
            cause = fault.__cause__ or fault
            await self._suspects.note_end(fault.partition, fault.offset, cause)
            raise self._crashed(cause) from cause
        except Exception as fault:
            raise self._crashed(fault) from fault
        finally:
            watching.cancel()

    async def _fetched(self) -> Mapping[TopicPartition, Sequence[Any]]:
        try:
            batches = await self._consumer.getmany(timeout_ms=_POLL_MILLIS, max_records=_MOST_RECORDS)
        except OutOfReach:
            if not self._open_again:
                raise
            return {}
        if self._consumer.misses_topics and await self._reach.require_same_topics(self._consumer):
            self._consumer.sees_topics()
        return dict(batches)

    def _crashed(self, fault: BaseException) -> SinkCrashed:
        # Messages of drivers quote rows, so that only the class and the frames are safe to log.
        self._health.crashed = type(fault).__name__
        frames = "".join(traceback.format_tb(fault.__traceback__))
        logger.critical("sink.crashed", extra={"sink": self._name, "fault": type(fault).__name__, "frames": frames})
        return SinkCrashed(type(fault).__name__)

    async def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:  # noqa: ARG002
        # aiokafka swallows what a listener raises, so the fault waits in the future for the next pass.
        async with self._turn:
            self._leaving = asyncio.ensure_future(self._give_up())
            await asyncio.wait([self._leaving])

    async def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:  # noqa: ARG002
        self._open_again = True

    async def _advance(self, batches: Mapping[TopicPartition, Sequence[Any]]) -> None:
        if self._leaving is not None:
            self._leaving.result()
            self._leaving = None
        if self._open_again and self._outage.is_pausing:
            return
        try:
            await self._work(batches)
        except Fenced:
            logger.warning("sink.fenced", extra={"sink": self._name})
            self._open_again = True
            return
        except Unavailable as fault:
            self._wait_for(fault)
            return
        if self._outage.is_over():
            self._report_ready()
        await self._commit()
        self._slow_down()

    async def _open(self) -> None:
        held = self._consumer.assignment()
        spans = await self._reach.spans(self._consumer, held)
        await self._suspects.read(held)
        self._positions.clear()
        self._committed.clear()
        starts = await self._stage.open(spans)
        if self._consumer.assignment() != held:
            # A rebalance had begun before the stage was fenced, and has ended: the next pass opens what it brought.
            return
        for partition, offset in starts.items():
            self._consumer.seek(partition, offset)
        self._positions.update(starts)
        self._open_again = False
        if not self._outage.is_on:
            self._report_ready()
        logger.info("sink.opened", extra={"sink": self._name, "partitions": len(held)})

    async def _work(self, batches: Mapping[TopicPartition, Sequence[Any]]) -> None:
        if self._open_again:
            # What was fetched may be from before the rebalance; opening seeks, so it comes again.
            await self._open()
        elif self._positions:
            with batch_span(self._tracing, f"sink {self._name}", batches.values()):
                await self._take(batches)
        if self._positions:
            await self._stage.tick()

    def _report_ready(self) -> None:
        self._health.report(self._name, ready=True, seen=f"{len(self._positions)} partitions")

    def _wait_for(self, fault: Unavailable) -> None:
        seconds = self._outage.note()
        self._health.report(self._name, ready=False, seen=str(fault))
        logger.warning("sink.waits", extra={"sink": self._name, "reason": str(fault), "seconds": seconds})
        # Nothing is finished or committed of what is read again from the stored offsets.
        self._positions.clear()
        self._open_again = True
        self._consumer.pause(*self._consumer.assignment())

    async def _take(self, batches: Mapping[TopicPartition, Sequence[Any]]) -> None:
        received: list[Received[T]] = []
        for partition, records in batches.items():
            for record in records:
                decoded = await self._decode(partition, record)
                if decoded is not None:
                    received.append(decoded)
        # A position also passes offsets without a record, such as the end of a transaction.
        positions = {place: await self._consumer.position(place) for place in self._positions}
        if positions == self._positions:
            return
        self._positions.update(positions)
        await self._stage.take(received, self._positions)
        for partition, records in batches.items():
            if records:
                self._lateness.note(partition, from_millis(records[-1].timestamp))

    async def _decode(self, partition: TopicPartition, record: Any) -> Received[T] | None:
        source = self._sources[record.topic]
        aside = self._suspects.why_set_aside(partition, record.offset)
        if aside is not None:
            await self._refuse(source, record, *aside)
            seen = f"{record.topic}/{record.partition}/{record.offset}: {' '.join(aside)}; see `leadstream dlq list`"
            self._health.report(SET_ASIDE, ready=False, seen=seen)
            return None
        if record.value is None and not source.takes_tombstones:
            self._metrics.items_ignored.labels("tombstone").inc()
            return None
        with on_record(partition, record.offset):
            try:
                return Received(partition, record.offset, source.read(record), len(record.value or b""))
            except NotDecodable as fault:
                await self._refuse(source, record, type(fault).__name__, str(fault))
                return None

    async def _refuse(self, source: Source[T], record: Any, fault: str, reason: str) -> None:
        if source.dead_letters is not None:
            try:
                self._limit.count(record.topic, record.partition, 1, now())
            except TooManyDeadLetters as limit:
                raise Unusable(str(limit)) from None
            key, value, headers = dead_letter(record, stage=self._name, reason=reason, fault=fault)
            await self._producer.send_and_wait(source.dead_letters, value, key=key, headers=headers)
        self._metrics.records_dead_lettered.labels(record.topic, fault).inc()
        place = {"topic": record.topic, "partition": record.partition, "offset": record.offset}
        logger.warning("record.dead_lettered", extra={"sink": self._name, "fault": fault, "reason": reason, **place})

    async def _commit(self) -> None:
        unfinished = self._stage.unfinished()
        finished = {place: unfinished.get(place, position) for place, position in self._positions.items()}
        moved = {place: offset for place, offset in finished.items() if self._committed.get(place) != offset}
        if not moved:
            return
        self._suspects.forget_passed(finished)
        try:
            commits = {place: (offset, self._suspects.metadata(place)) for place, offset in moved.items()}
            await self._consumer.commit(commits)
        except CommitFailedError:
            # A rebalance is under way: the next holder reads from the last commit, which is always safe.
            logger.warning("offsets.not_committed", extra={"sink": self._name})
            return
        self._committed.update(moved)

    def _slow_down(self) -> None:
        full = set(self._stage.full())
        paused = self._consumer.paused()
        self._consumer.pause(*(full - paused))
        self._consumer.resume(*(paused - full))

    async def _give_up(self) -> None:
        if not self._positions:
            return
        with suppress(Fenced, Unavailable):
            await self._stage.close()
            await self._commit()
        self._positions.clear()
