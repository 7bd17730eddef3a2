"""A Faust transport that carries batches and never commits past anything unfinished, unsent or failed.

Decision 0002 says why. Faust keeps agents, tables, assignment, recovery and the worker. Everything here belongs to the
app's loop; what runs in the thread of aiokafka's consumer is in `consumer_thread`.
"""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from datetime import datetime
from time import monotonic
from typing import Any

import faust
import faust.streams
from aiokafka.errors import ConsumerStoppedError
from faust.transport.drivers import TRANSPORTS
from faust.transport.drivers import aiokafka as driver
from faust.types import TP, ConsumerMessage
from mode import Service
from yarl import URL

from runtime.cluster import Cluster
from runtime.losses import OutOfReach
from runtime.reach import Reach
from runtime.tracing import OFF, Tracing
from runtime.versions import WrongVersion, require_versions
from streams.engine.consumer_thread import Batch, ConsumerThread, Fetched
from streams.engine.credentials import credentials
from streams.engine.delivery_order import DeliveryOrder
from streams.engine.lease import Lease
from streams.engine.producer import DeliveryFailed, Producer

SCHEME = "leadstream"

# The transport overrides what these versions do inside.
PINS = {"faust-streaming": "0.15.3", "mode-streaming": "0.7.1", "aiokafka": "0.14.0"}

_MAX_WAITING = 4
_IDLE_POLL = 0.1
_BUSY_POLL = 0.005


class StuckInRebalance(Exception):
    """A rebalance does not end."""


class BatchSchema(faust.Schema):  # type: ignore[misc] # Faust is untyped to us
    """Passes the records of a batch on undecoded: the agent decodes, and can refuse a single record."""

    def compile(self, app: faust.App, **_: Any) -> Callable[..., Awaitable[Any]]:
        async def decode(message: ConsumerMessage, *, propagate: bool = False) -> Any:  # noqa: ARG001 - Faust's shape
            return app.create_event(None, message.value, None, message)

        return decode


class Consumer(driver.Consumer):  # type: ignore[misc]
    """Delivers batches in order, commits in that order, and stops for good at the first failure.

    An agent gets the batches of a partition one after the other, up to `_MAX_WAITING` ahead, and finishes a batch by
    asking for the next one. Faust calls `commit` on its interval, before a rebalance and at the stop: it first waits
    until every record handed to the producer is acked, then commits the longest finished prefix of each partition. So
    whatever is committed has its outputs durable. An agent that raises, a failed delivery, a lost record and a stuck
    rebalance end in `fail`: after it nothing is handed out and nothing committed, and the worker exits non-zero.
    Revoked partitions commit what is finished and forget the rest; after each assignment the consumer seeks to the
    committed offsets, and a batch that was not finished comes again.
    """

    # In seconds. Faust's recovery gives up, and says nothing, when the broker answers later than it waits.
    stuck_after = 300.0

    _thread: ConsumerThread

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._orders: defaultdict[TP, DeliveryOrder] = defaultdict(DeliveryOrder)
        self._ends: dict[TP, datetime] = {}
        self._fetching = asyncio.Lock()
        self.failure: BaseException | None = None

    def _new_consumer_thread(self) -> ConsumerThread:
        return ConsumerThread(self, loop=self.loop, beacon=self.beacon)

    @property
    def lease(self) -> Lease:
        return self._thread.lease

    @property
    def thread(self) -> ConsumerThread:
        return self._thread

    def ends(self) -> dict[TP, datetime | None]:
        """Per assigned input partition the time up to which every record that it received is finished; None while a
        record is unread or unfinished. Never waits."""
        self._settle()
        return {
            tp: None if self._orders[tp].waiting else self._ends.get(tp)
            for tp in self._get_active_partitions()
            if not self._is_changelog_tp(tp)
        }

    async def fail(self, error: BaseException) -> None:
        """Hand out nothing more, commit nothing more, and end the worker with a non-zero status. Only the first call
        counts."""
        if self.failure is not None:
            return
        self.failure = error
        self.stop_flow()
        self.app.flow_control.suspend()
        self.app.flow_control.clear()
        await self.crash(error)

    async def on_task_error(self, exc: BaseException) -> None:
        """Called by Faust when an agent raised; Faust's own method commits and goes on with the next event."""
        await self.fail(exc)

    @Service.task  # type: ignore[untyped-decorator]
    async def _end_when_stuck(self) -> None:
        settled_at = monotonic()
        while not self.should_stop:
            await self.sleep(self.stuck_after / 100)
            if not self.app.rebalancing:
                settled_at = monotonic()
            elif monotonic() > settled_at + self.stuck_after:
                await self.fail(StuckInRebalance(f"for more than {self.stuck_after} seconds"))

    async def _drain_messages(self, fetcher: Any) -> None:
        try:
            while not (self.should_stop or fetcher.should_stop):
                await self._fetch_and_deliver()
        except OutOfReach as error:
            await self.fail(error)
        except (ConsumerStoppedError, asyncio.CancelledError):
            if not self.app.should_stop:
                raise

    async def _fetch_and_deliver(self) -> None:
        if not self.flow_active:
            await self.wait(self.can_resume_flow)
            return
        async with self._fetching:
            assigned = self._get_active_partitions()
            with_room = self._with_room(assigned)
            if with_room:
                generation = self.app.consumer_generation_id
                timeout = _IDLE_POLL if len(with_room) == len(assigned) else _BUSY_POLL
                fetched = await self._thread.fetch(with_room, timeout)
                if generation == self.app.consumer_generation_id:
                    await self._deliver(fetched, generation)
        if not with_room:
            await self.sleep(_BUSY_POLL)

    def _with_room(self, assigned: set[TP]) -> set[TP]:
        # The queues must never be full: Faust's answer to a full queue outlives a rebalance.
        self._settle()
        room_to_recover = self.app.tables.changelog_queue.qsize() < _MAX_WAITING
        return {
            tp
            for tp in assigned
            if (room_to_recover if self._is_changelog_tp(tp) else self._orders[tp].waiting < _MAX_WAITING)
        }

    async def _deliver(self, fetched: Fetched, generation: int) -> None:
        """Give the batches to the agents. Batches left over when the flow stops are read again: a seek follows."""
        for batch in fetched.batches:
            if not self.flow_active:
                return
            message = _message_of(batch, generation)
            if not self._is_changelog_tp(batch.tp):
                self._orders[batch.tp].delivered(message.offset)
                if not batch.records:
                    self._orders[batch.tp].finished(message.offset)
                    continue
            await self.wait_first(self.callback(message), self.suspend_flow.wait())
        if self.flow_active:
            self._ends = fetched.ends

    def _settle(self) -> None:
        # Faust's compiled streams write what is finished straight into these two.
        for tp, offsets in self._acked.items():
            for offset in offsets:
                self._orders[tp].finished(offset)
            offsets.clear()
            self._acked_index[tp].clear()

    def _filter_tps_with_pending_acks(self, topics: Iterable[Any] | None = None) -> Iterator[TP]:
        self._settle()
        return (tp for tp in list(self._orders) if topics is None or tp in topics or tp.topic in topics)

    def _new_offset(self, tp: TP) -> int | None:
        return self._orders[tp].committable

    async def commit(self, topics: Any = None, start_new_transaction: bool = True) -> bool:  # noqa: FBT001, FBT002
        if self.failure is not None:
            return False
        try:
            return bool(await super().commit(topics, start_new_transaction))
        except DeliveryFailed as error:
            await self.fail(error)
            return False

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        # Faust forgets what is finished but not committed before it commits for the last time.
        self._settle()
        await super().on_partitions_revoked(revoked)
        self._forget_deliveries()

    async def perform_seek(self) -> None:
        # Faust resumes the streams while it seeks: what they read before the seek would come twice, or be cleared.
        self.stop_flow()
        async with self._fetching:
            self._forget_deliveries()
            self._committed_offset.clear()
            await super().perform_seek()
            try:
                self._committed_offset.update(await self._thread.require_reach())
            except OutOfReach as error:
                await self.fail(error)

    async def seek_wait(self, partitions: Mapping[TP, int]) -> None:
        async with self._fetching:
            await super().seek_wait(partitions)

    def _forget_deliveries(self) -> None:
        self._settle()
        self._orders.clear()
        self._ends = {}
        self._thread.suspects.clear()


def _message_of(batch: Batch, generation: int) -> ConsumerMessage:
    # Keys, headers and times are the records' own.
    return ConsumerMessage(
        topic=batch.tp.topic,
        partition=batch.tp.partition,
        offset=batch.resume_at - 1,
        timestamp=None,
        timestamp_type=None,
        headers=None,
        key=None,
        value=batch.records,
        checksum=None,
        tp=batch.tp,
        generation_id=generation,
    )


class Transport(driver.Transport):  # type: ignore[misc]
    Consumer = Consumer
    Producer = Producer


def create_app(
    app_id: str,
    broker: Cluster,
    *,
    partitions: int,
    reach: Reach,
    tracing: Tracing = OFF,
    commit_interval: float = 0.5,
    session_timeout: float = 12.0,
    delivery_timeout: float = 30.0,
) -> faust.App:
    """A Faust app on this transport; times are in seconds.

    The worker ends with `OutOfReach` where records are lost that it has not read yet. Raises `WrongVersion` unless the
    exact libraries are installed that the transport was tested with.
    """
    require_versions(PINS)
    if faust.streams._CStreamIterator is None:
        raise WrongVersion("Faust runs without its compiled parts, and then loses events at a rebalance")
    TRANSPORTS.aliases[SCHEME] = f"{__name__}:{Transport.__name__}"
    app = _App(
        app_id,
        broker=[URL(f"{SCHEME}://{address.strip()}") for address in broker.servers.split(",")],
        broker_credentials=credentials(broker),
        store="memory://",
        autodiscover=False,
        web_enabled=False,
        topic_partitions=partitions,
        topic_allow_declare=False,
        topic_disable_leader=True,
        table_standby_replicas=0,
        stream_buffer_maxsize=max(16, 2 * _MAX_WAITING * partitions),
        broker_commit_interval=commit_interval,
        broker_session_timeout=session_timeout,
        broker_heartbeat_interval=session_timeout / 4,
        broker_request_timeout=max(40.0, session_timeout),
        # `send_all` hands over all that there is, so waiting for more would only add to the latency.
        producer_linger=0,
        producer_max_batch_size=256 * 1024,
        producer_max_request_size=8 * 1024 * 1024,
        producer_compression_type="lz4",
        producer_request_timeout=delivery_timeout,
        worker_redirect_stdouts=False,
    )
    app.reach, app.tracing = reach, tracing
    return app


class _App(faust.App):  # type: ignore[misc]
    def _create_directories(self) -> None:
        """Nothing is kept on disk, so there is nothing to make."""

    async def _producer_flush(self, logger: Any) -> None:
        # Raising here would leave the shutdown, which this is a part of, half done.
        try:
            await super()._producer_flush(logger)
        except DeliveryFailed as error:
            await fail_fast(self, error)


def batch_topic(app: faust.App, name: str) -> Any:
    """A topic whose events are batches: `event.value` lists the `ConsumerRecord`s of `event.message.partition`."""
    return app.topic(name, schema=BatchSchema())


def consumer_of(app: faust.App) -> Consumer:
    consumer: Consumer = app.consumer
    return consumer


def producer_of(app: faust.App) -> Producer:
    producer: Producer = app.producer
    return producer


def is_settled(app: faust.App) -> bool:
    """Whether the worker has its partitions and their state, and is not being rebalanced."""
    return bool(app.tables.recovery.completed.is_set() and not app.rebalancing and not app.should_stop)


def end_of_log(app: faust.App) -> Mapping[TP, datetime | None]:
    """For each assigned input partition the time up to which every record that the broker received is finished.

    It is when the fetch was sent that found no more records, by this machine's clock; None while a record is unread or
    unfinished. Call it in the app's loop; it never waits.
    """
    return consumer_of(app).ends()


async def fail_fast(app: faust.App, error: BaseException) -> None:
    """End the worker with a non-zero status; no offset is committed after this."""
    await app.consumer.fail(error)
