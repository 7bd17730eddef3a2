"""Publishes verified deliveries to the raw topic, byte for byte."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from types import MappingProxyType

from aiokafka import AIOKafkaProducer
from aiokafka.errors import (
    CorruptRecordException,
    InvalidProducerEpoch,
    InvalidTimestampError,
    KafkaConnectionError,
    KafkaError,
    MessageSizeTooLargeError,
    OutOfOrderSequenceNumber,
    PolicyViolationError,
    ProducerFenced,
    RecordListTooLargeError,
    UnknownError,
    UnknownProducerId,
)
from aiokafka.structs import RecordMetadata

from ingest.copies import Copy, copies_of
from messenger.events import PageId
from runtime.clock import now, to_millis, uptime
from runtime.kafka import follows_metadata, only_kafka_errors, partition_of, stop_within
from runtime.plausible import SENT_AT, PlausibleTime
from runtime.tracing import OFF, TRACEPARENT, Tracing
from schemas.copies import SIGNATURE

# Kafka refuses such a batch again however often it is sent. aiokafka has no INVALID_RECORD and raises UnknownError.
# https://kafka.apache.org/protocol#protocol_error_codes
REFUSALS = (
    MessageSizeTooLargeError,
    RecordListTooLargeError,
    CorruptRecordException,
    InvalidTimestampError,
    PolicyViolationError,
    UnknownError,
)
# After one of these errors a producer never gets a record through again, and must be replaced. A refused batch has used
# a sequence number, so later batches of its partition would be out of order.
_PRODUCER_IS_LOST = (OutOfOrderSequenceNumber, ProducerFenced, InvalidProducerEpoch, UnknownProducerId, *REFUSALS)
_RECONNECT_AFTER = timedelta(seconds=1)
# A delivery that is not flushed by then is in the spool, or was answered 503 and is delivered again.
_FLUSH_WITHIN = timedelta(seconds=5)
_NO_ALIASES: Mapping[PageId, PageId] = MappingProxyType({})

_log = logging.getLogger(__name__)


class NotDurable(Exception):
    """The delivery is not known to be in Kafka or in the spool: Meta must deliver it again."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """One webhook POST with a valid signature; `body` is verbatim."""

    id: str
    received_at: datetime
    signature: str
    body: bytes


class Publisher:
    """Publishes deliveries to one topic through a producer that it connects, and replaces when it is lost.

    `stay_connected` runs once, beside any number of calls of the other methods; until it has connected, and while it
    replaces a producer, these wait. They raise `KafkaError` and nothing else of aiokafka's.

    Records of one Page share a key and so a partition: aiokafka's default partitioner is Kafka's own murmur2. A
    delivery about several Pages is one record for each of them, with the same body. `aliases` maps other ids of a Page
    to its page id. `explain` finds out why Kafka refuses a connection, for the log and for readiness. `on_send` gets
    the Page of each copy that the producer takes.
    """

    def __init__(
        self,
        connect: Callable[[], AIOKafkaProducer],
        topic: str,
        explain: Callable[[], Awaitable[object | None]] | None = None,
        *,
        aliases: Mapping[PageId, PageId] = _NO_ALIASES,
        on_send: Callable[[bytes], None] = lambda _page: None,
        reconnect_after: timedelta = _RECONNECT_AFTER,
        tracing: Tracing = OFF,
    ) -> None:
        self._connect, self._explain, self._aliases, self._on_send = connect, explain, aliases, on_send
        self._reconnect_after, self._tracing = reconnect_after.total_seconds(), tracing
        self.topic = topic
        self._clock = PlausibleTime(now(), uptime())
        self._producer: AIOKafkaProducer | None = None
        self._fault = "not connected"
        self._connected = asyncio.Event()
        self._lost = asyncio.Event()
        self._unsettled: set[asyncio.Future[RecordMetadata]] = set()

    async def send(self, delivery: Delivery) -> "asyncio.Future[list[RecordMetadata]]":
        """Give the delivery to the producer; the result is Kafka's acknowledgement of each copy.

        Waits for a connection and for room in the producer's buffer. Cancelled meanwhile, nothing is given, or the
        first of several copies. Afterwards the producer keeps the order: the delivery is in Kafka behind all that it
        was given before in those partitions. Raises `KafkaError`, and so does the result: then Kafka may or may not
        have the delivery, or some of its copies. The result always completes: the loss of the producer fails it.
        """
        # The headers say when the producer was given the delivery, however long that had to wait.
        await self._connected.wait()
        headers = self._headers(delivery)
        sent = []
        for copy in copies_of(delivery.body, self._aliases):
            sent.append(await self._send(self.topic, delivery.body, copy.key, [*headers, *copy.headers]))
            self._on_send(copy.key)
        return _all_of(sent)

    async def put(self, topic: str, key: bytes, value: bytes) -> None:
        """Write a record to another topic; it is durable once this returns.

        Waits as `send` does, and for the acknowledgement. Raises `KafkaError`, and then, or when it is cancelled, the
        record may still be written.
        """
        sent = await self._send(topic, value, key, [])
        with only_kafka_errors():
            await asyncio.shield(sent)

    async def _send(
        self, topic: str, value: bytes, key: bytes | None, headers: Sequence[tuple[str, bytes]]
    ) -> "asyncio.Future[RecordMetadata]":
        await self._connected.wait()
        assert self._producer is not None
        try:
            with only_kafka_errors():
                sent: asyncio.Future[RecordMetadata] = await self._producer.send(topic, value, key=key, headers=headers)
        except MessageSizeTooLargeError:
            # The producer compares with its own limit, and has taken nothing.
            raise
        except KafkaError as error:
            self._check_producer(error)
            raise
        self._track(sent)
        return sent

    async def send_alone(self, delivery: Delivery) -> None:
        """As `send`, each copy in a batch of its own, and wait for Kafka's answers.

        Raises one of `REFUSALS` for this very delivery, or any other `KafkaError` when Kafka may or may not have it.
        """
        for copy in copies_of(delivery.body, self._aliases):
            await self._send_alone(delivery, copy)

    async def _send_alone(self, delivery: Delivery, copy: Copy) -> None:
        await self._connected.wait()
        assert self._producer is not None
        headers = [*self._headers(delivery), *copy.headers]
        batch = self._producer.create_batch()
        batch.append(timestamp=None, key=copy.key, value=delivery.body, headers=headers)
        batch.close()
        try:
            with only_kafka_errors():
                partition = partition_of(copy.key, len(await self._producer.partitions_for(self.topic)))
                taken = await self._producer.send_batch(batch, self.topic, partition=partition)
        except KafkaError as error:
            self._check_producer(error)
            raise
        sent: asyncio.Future[RecordMetadata] = asyncio.get_running_loop().create_future()
        taken.add_done_callback(partial(_copy_answer, sent))
        self._track(sent)
        with only_kafka_errors():
            await sent

    async def stay_connected(self) -> None:
        """Connect, and connect again whenever the producer is lost, until cancelled.

        Cancelled, it flushes the producer for up to `_FLUSH_WITHIN`, and fails the sends without an acknowledgement.
        """
        while True:
            producer = self._connect()
            try:
                with only_kafka_errors():
                    await producer.start()
                self._producer = producer
                self._lost.clear()
                self._connected.set()
                await self._lost.wait()
                _log.error("producer.lost")
            except KafkaError as error:
                # aiokafka has the same error for a Kafka that is away and for one that refuses the connection.
                reason = str((self._explain and await self._explain()) or type(error).__name__)
                self._fault = f"not connected: {reason}"
                _log.warning("kafka.unreachable", extra={"reason": reason})
                await asyncio.sleep(self._reconnect_after)
            finally:
                await self._disconnect(producer)

    async def find_fault(self) -> str | None:
        """The fault of the connection or the topic, None without one. Waits for Kafka's answer."""
        if self._producer is None:
            return self._fault
        if not follows_metadata(self._producer):
            self._lost.set()
            return "Kafka's answers could not be read: connecting again"
        try:
            with only_kafka_errors():
                cluster = await self._producer.client.fetch_all_metadata()
        except KafkaError as error:
            return f"no answer from Kafka: {type(error).__name__}"
        if cluster.partitions_for_topic(self.topic) is None:
            return f"topic {self.topic} is missing: run `leadstream topics apply`"
        return None

    async def _disconnect(self, producer: AIOKafkaProducer) -> None:
        """Flush the producer, and fail what it still holds: its acknowledgements can no longer arrive."""
        self._connected.clear()
        self._producer = None
        if not await stop_within(producer, _FLUSH_WITHIN.total_seconds()):
            _log.warning("producer.flush_abandoned", extra={"unsettled": len(self._unsettled)})
        for sent in self._unsettled:
            if not sent.done():
                sent.set_exception(KafkaConnectionError("the producer is gone"))

    def _headers(self, delivery: Delivery) -> list[tuple[str, bytes]]:
        # What comes out of the spool is in no span any more.
        trace = self._tracing.traceparent("webhook.drained")
        return [
            *([] if trace is None else [(TRACEPARENT, trace)]),
            ("received-at", b"%d" % to_millis(delivery.received_at)),
            (SENT_AT, b"%d" % to_millis(self._clock.at(now(), uptime()))),
            (SIGNATURE, delivery.signature.encode()),
            ("delivery-id", delivery.id.encode()),
        ]

    def _track(self, sent: "asyncio.Future[RecordMetadata]") -> None:
        self._unsettled.add(sent)
        sent.add_done_callback(self._settle)

    def _settle(self, sent: "asyncio.Future[RecordMetadata]") -> None:
        self._unsettled.discard(sent)
        if not sent.cancelled() and (error := sent.exception()) is not None:
            self._check_producer(error)

    def _check_producer(self, error: BaseException) -> None:
        # After the death of its sender task, aiokafka raises the plain class, or an error that is not Kafka's.
        if isinstance(error, _PRODUCER_IS_LOST) or type(error) is KafkaError or not isinstance(error, KafkaError):
            self._connected.clear()
            self._lost.set()


def _copy_answer(sent: "asyncio.Future[RecordMetadata]", taken: "asyncio.Future[RecordMetadata]") -> None:
    """The answer for a batch, unless the loss of the producer has failed `sent` already."""
    if taken.cancelled() or sent.done():
        return
    error = taken.exception()
    if error is not None:
        sent.set_exception(error)
    else:
        sent.set_result(taken.result())


def _all_of(copies: Sequence["asyncio.Future[RecordMetadata]"]) -> "asyncio.Future[list[RecordMetadata]]":
    """The answers for all copies, once the last is there; or the first error among them."""
    whole: asyncio.Future[list[RecordMetadata]] = asyncio.get_running_loop().create_future()
    unanswered = len(copies)

    def note(_: "asyncio.Future[RecordMetadata]") -> None:
        nonlocal unanswered
        unanswered -= 1
        if unanswered or whole.done():
            return
        error = next((error for sent in copies if (error := sent.exception()) is not None), None)
        if error is None:
            whole.set_result([sent.result() for sent in copies])
        else:
            whole.set_exception(error)

    for sent in copies:
        sent.add_done_callback(note)
    return whole
