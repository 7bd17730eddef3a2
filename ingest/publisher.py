"""A verified delivery onto the raw topic, byte for byte."""

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

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
from aiokafka.partitioner import DefaultPartitioner
from aiokafka.structs import RecordMetadata

from messenger.webhook import delivery_key
from runtime.clock import now, to_millis, uptime
from runtime.kafka import follows_metadata, only_kafka_errors, stop_within
from runtime.plausible import SENT_AT, PlausibleTime

# What Kafka says of a batch that it will not take later either. aiokafka knows no INVALID_RECORD, and says unknown.
# https://kafka.apache.org/protocol#protocol_error_codes
REFUSALS = (
    MessageSizeTooLargeError,
    RecordListTooLargeError,
    CorruptRecordException,
    InvalidTimestampError,
    PolicyViolationError,
    UnknownError,
)
# A producer that has once said one of these never gets a record through again: only a new one does. One whose batch was
# refused has counted it all the same, and what follows in that partition is out of order.
_PRODUCER_IS_LOST = (OutOfOrderSequenceNumber, ProducerFenced, InvalidProducerEpoch, UnknownProducerId, *REFUSALS)
_RECONNECT_AFTER = timedelta(seconds=1)
# What is left behind by then is in the spool, or was answered 503 and will be delivered again.
_FLUSH_WITHIN = timedelta(seconds=5)

_END = rb'\s*:\s*\{\s*"id"\s*:\s*"(\d{1,32})"\s*\}'
_ONE_PERSON = re.compile(
    rb'"messaging"\s*:\s*\[\s*\{\s*(?:"sender"' + _END + rb'\s*,\s*"recipient"' + _END + rb'|"recipient"' + _END
    + rb'\s*,\s*"sender"' + _END + rb")"
)  # fmt: skip

_log = logging.getLogger(__name__)


class NotDurable(Exception):
    """The delivery is in neither Kafka nor the spool as far as we know, so that Meta must deliver it again."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """One webhook POST whose signature held: the body as it came, and what came with it."""

    id: str
    received_at: datetime
    signature: str
    body: bytes


class Publisher:
    """Publishes deliveries to one topic through a producer that it connects, and replaces when it is lost.

    `explain` says why Kafka does not let us in, for the log and for readiness.

    Records of one person share a key and so a partition: aiokafka's default partitioner is Kafka's own murmur2.
    """

    def __init__(
        self,
        connect: Callable[[], AIOKafkaProducer],
        topic: str,
        explain: Callable[[], Awaitable[object | None]] | None = None,
        *,
        reconnect_after: timedelta = _RECONNECT_AFTER,
    ) -> None:
        self._connect, self._explain = connect, explain
        self._reconnect_after = reconnect_after.total_seconds()
        self.topic = topic
        self._clock = PlausibleTime(now(), uptime())
        self._producer: AIOKafkaProducer | None = None
        self._why_not = "not connected"
        self._connected = asyncio.Event()
        self._lost = asyncio.Event()
        self._unsettled: set[asyncio.Future[RecordMetadata]] = set()

    async def send(self, delivery: Delivery) -> "asyncio.Future[RecordMetadata]":
        """Give the delivery to the producer, behind all that it was given before; the result is Kafka's answer.

        Waits for a connection and for room, and gives nothing to the producer when it is cancelled while it waits.
        Raises `KafkaError`, as does the result: then Kafka does not have the delivery, or may not have it.
        """
        # The headers say when the producer was given the delivery, however long that had to wait.
        await self._connected.wait()
        return await self._send(self.topic, delivery.body, record_key(delivery.body), self._headers(delivery))

    async def put(self, topic: str, key: bytes, value: bytes) -> None:
        """Have a record in another topic: it is durable once this returns. Waits as `send` does; raises `KafkaError`.

        Cancelled after the producer has it, the record may still be written.
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
            # It was held against the producer's own limit, and nothing was given to the producer.
            raise
        except KafkaError as error:
            self._note(error)
            raise
        self._watch(sent)
        return sent

    async def send_alone(self, delivery: Delivery) -> RecordMetadata:
        """As `send`, in a batch of its own and up to Kafka's answer: a refusal is then of this very delivery."""
        await self._connected.wait()
        assert self._producer is not None
        key = record_key(delivery.body)
        batch = self._producer.create_batch()
        batch.append(timestamp=None, key=key, value=delivery.body, headers=self._headers(delivery))
        batch.close()
        try:
            with only_kafka_errors():
                partitions = sorted(await self._producer.partitions_for(self.topic))
                partition = DefaultPartitioner()(key, partitions, partitions)
                taken = await self._producer.send_batch(batch, self.topic, partition=partition)
        except KafkaError as error:
            self._note(error)
            raise
        sent: asyncio.Future[RecordMetadata] = asyncio.get_running_loop().create_future()
        taken.add_done_callback(partial(_pass_on, sent))
        self._watch(sent)
        with only_kafka_errors():
            return await sent

    async def stay_connected(self) -> None:
        """Connect, and connect anew whenever the producer is lost, until cancelled."""
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
                reason = await self._reason_of(error)
                self._why_not = f"not connected: {reason}"
                _log.warning("kafka.unreachable", extra={"reason": reason})
                await asyncio.sleep(self._reconnect_after)
            finally:
                await self._leave(producer)

    async def find_fault(self) -> str | None:
        """What is wrong with the way to the topic, or None when Kafka answers and has it."""
        if self._producer is None:
            return self._why_not
        if not follows_metadata(self._producer):
            self._lost.set()
            return "Kafka's answers could not be read: connecting anew"
        try:
            with only_kafka_errors():
                cluster = await self._producer.client.fetch_all_metadata()
        except KafkaError as error:
            return f"no answer from Kafka: {type(error).__name__}"
        if cluster.partitions_for_topic(self.topic) is None:
            return f"topic {self.topic} is missing: run `leadstream topics apply`"
        return None

    async def _reason_of(self, error: KafkaError) -> str:
        # aiokafka says the same of a Kafka that is away and of one that does not let us in.
        return str((await self._explain() if self._explain is not None else None) or type(error).__name__)

    async def _leave(self, producer: AIOKafkaProducer) -> None:
        """Flush the producer, and give up on what it still holds: nobody will answer for that any more."""
        self._connected.clear()
        self._producer = None
        if not await stop_within(producer, _FLUSH_WITHIN.total_seconds()):
            _log.warning("producer.flush_abandoned", extra={"unsettled": len(self._unsettled)})
        for sent in self._unsettled:
            if not sent.done():
                sent.set_exception(KafkaConnectionError("the producer is gone"))

    def _headers(self, delivery: Delivery) -> list[tuple[str, bytes]]:
        return [
            ("received-at", b"%d" % to_millis(delivery.received_at)),
            (SENT_AT, b"%d" % to_millis(self._clock.at(now(), uptime()))),
            ("x-hub-signature-256", delivery.signature.encode()),
            ("delivery-id", delivery.id.encode()),
        ]

    def _watch(self, sent: "asyncio.Future[RecordMetadata]") -> None:
        self._unsettled.add(sent)
        sent.add_done_callback(self._settle)

    def _settle(self, sent: "asyncio.Future[RecordMetadata]") -> None:
        self._unsettled.discard(sent)
        if not sent.cancelled() and (error := sent.exception()) is not None:
            self._note(error)

    def _note(self, error: BaseException) -> None:
        # The plain class, or one that is none of Kafka's, is what remains after aiokafka's sender task has died.
        if isinstance(error, _PRODUCER_IS_LOST) or type(error) is KafkaError or not isinstance(error, KafkaError):
            # What is given to it from now on would only fail as well.
            self._connected.clear()
            self._lost.set()


def _pass_on(sent: "asyncio.Future[RecordMetadata]", taken: "asyncio.Future[RecordMetadata]") -> None:
    """The answer for a batch to who waits for it, unless they were told already that the producer is gone."""
    if taken.cancelled() or sent.done():
        return
    error = taken.exception()
    if error is not None:
        sent.set_exception(error)
    else:
        sent.set_result(taken.result())


def record_key(body: bytes) -> bytes | None:
    """What `delivery_key` gives for a body that Meta sends, mostly without reading all of its JSON."""
    # In a string quotes are escaped, so these cannot be text that somebody wrote. An echo has the ends the other way.
    if body.count(b'"sender"') == 1 and body.count(b'"recipient"') == 1 and b'"is_echo"' not in body:
        found = _ONE_PERSON.search(body)
        if found is not None:
            person, page, other_page, other_person = found.groups()
            return b"%b:%b" % (page or other_page, person or other_person)
    key = delivery_key(body)
    return None if key is None else key.encode()
