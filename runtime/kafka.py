"""aiokafka producers and consumers with the settings that our guarantees rest on."""

import asyncio
import logging
import struct
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import Any, Self

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import (
    KafkaConnectionError,
    KafkaError,
    OffsetOutOfRangeError,
    UnknownTopicOrPartitionError,
)
from aiokafka.partitioner import DefaultPartitioner
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.record._crecords import default_records

from runtime.cluster import Cluster, admin_client
from runtime.losses import OutOfReach, gone
from runtime.suspect import Suspect, suspect_in

_CANCEL_AGAIN_AFTER = 0.1

# aiokafka compresses at level 9, which takes ten times as long for a seventh less, and has no option.
default_records.lz4_encode = partial(default_records.lz4_encode, level=1)

_log = logging.getLogger(__name__)


class NotKafkasAnswer(KafkaError):  # type: ignore[misc] # aiokafka has no types
    """No Kafka answers so: another program listens at the broker's address, or garbles the bytes on the way."""


@contextmanager
def only_kafka_errors() -> Iterator[None]:
    """Raise `KafkaError` where aiokafka raises another error at a lost connection or at bytes that no broker sends."""
    try:
        with only_kafkas_answers():
            yield
    except (EOFError, OSError) as error:
        raise KafkaConnectionError(type(error).__name__) from error


@contextmanager
def only_kafkas_answers() -> Iterator[None]:
    """Raise `NotKafkasAnswer` at bytes that no broker sends, where aiokafka asserts, unpacks and looks up."""
    try:
        yield
    except OSError:
        # A certificate that does not hold is a ValueError too.
        raise
    except (AssertionError, AttributeError, LookupError, TypeError, ValueError, struct.error) as error:
        raise NotKafkasAnswer(type(error).__name__) from error


def producer(broker: Cluster, *, client_id: str, linger_ms: int = 5) -> AIOKafkaProducer:
    """An idempotent producer that waits for all in-sync replicas.

    It never gives up a send while Kafka is away: set a timeout where you cannot wait. Its linger is that of Kafka's own
    producer since 4.0.
    """
    return AIOKafkaProducer(
        **broker.options,
        client_id=client_id,
        acks="all",
        enable_idempotence=True,
        linger_ms=linger_ms,
        max_batch_size=256 * 1024,
        max_request_size=8 * 1024 * 1024,
        request_timeout_ms=30_000,
        compression_type="lz4",
    )


@lru_cache(maxsize=1 << 16)
def partition_of(key: bytes, partitions: int) -> int:
    """Where Kafka's own partitioner, murmur2, puts a key, in a topic of so many partitions."""
    everywhere = range(partitions)
    return int(DefaultPartitioner()(key, everywhere, everywhere))


async def stop_within(producer: AIOKafkaProducer, seconds: float) -> bool:
    """Flush and stop the producer; False if it still held records after `seconds`, or could not be stopped.

    A cancelled `AIOKafkaProducer.stop` leaves its sender running, which would send its records when Kafka is back.
    Records in flight after `seconds` may still be written.
    """
    try:
        async with asyncio.timeout(seconds):
            with only_kafka_errors():
                await producer.flush()
                await producer.stop()
    except (TimeoutError, KafkaError):
        await _abandon(producer)
        return False
    return True


async def leave(client: Any, seconds: float) -> None:
    """Stop an idle client, and wait at most `seconds` for it.

    While Kafka is away, aiokafka's consumer waits for it in `stop`, or raises the error that ended its requests.
    """
    stopping = asyncio.ensure_future(client.stop())
    await asyncio.wait([stopping], timeout=seconds)
    if stopping.cancel():
        _log.warning("client.abandoned", extra={"client": type(client).__name__})
    elif not stopping.cancelled() and (fault := stopping.exception()) is not None:
        _log.warning("client.abandoned", extra={"client": type(client).__name__, "fault": type(fault).__name__})


async def _abandon(producer: AIOKafkaProducer) -> None:
    # aiokafka has no public way to leave without a flush.
    producer._closed = True
    sender = producer._sender.sender_task
    if sender is not None:
        sender.cancel()
    if not follows_metadata(producer):
        # It would raise the error of that task, and leave the connections open.
        producer.client._sync_task = None
    await producer.client.close()
    # Cancelled once, the sender waits for its requests; these may wait for metadata that nothing requests any more.
    while sender is not None and not sender.done():
        await asyncio.wait([sender], timeout=_CANCEL_AGAIN_AFTER)
        sender.cancel()


def follows_metadata(producer: AIOKafkaProducer) -> bool:
    """Whether the task that learns of new leaders and topics still runs. aiokafka does not start it again."""
    task = producer.client._sync_task
    return task is None or not task.done()


class Consumer(AIOKafkaConsumer):  # type: ignore[misc] # aiokafka is untyped
    """A consumer that skips nothing: where Kafka no longer has the next record, `getmany` raises `OutOfReach`.

    aiokafka resets such a position in silence.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._watch = watch_fetches(self._client, self._subscription)

    async def __aenter__(self) -> Self:
        try:
            await self.start()
        except BaseException:
            # aiokafka leaves the connections of a consumer open that could not start.
            await self.stop()
            raise
        return self

    @property
    def misses_topics(self) -> bool:
        """Whether a fetch since `sees_topics` was answered that its topic does not exist."""
        return bool(self._watch.missing)

    def sees_topics(self) -> None:
        self._watch.missing.clear()

    def assign(self, partitions: Collection[TopicPartition]) -> None:
        self._watch.out_of_range.clear()
        super().assign(partitions)

    def seek(self, partition: TopicPartition, offset: int) -> None:
        super().seek(partition, offset)
        self._watch.out_of_range.pop(partition, None)

    async def getmany(self, *args: Any, **options: Any) -> Any:
        records = await super().getmany(*args, **options)
        for (topic, partition), offset in self._watch.out_of_range.items():
            raise OutOfReach(gone(topic, partition, offset))
        return records


@dataclass(slots=True)
class FetchWatch:
    """Refused fetches: the next offsets that are gone, and the partitions of topics that are gone."""

    out_of_range: dict[TopicPartition, int] = field(default_factory=dict)
    missing: set[TopicPartition] = field(default_factory=set)

    def note(self, request: FetchRequest, response: Any, subscription: Any) -> None:
        """Note an answer. As in aiokafka, the answer to a fetch from a position that was left is ignored."""
        asked = {
            TopicPartition(topic, partition): offset
            for topic, partitions in request.topics
            for partition, offset, _ in partitions
        }
        for topic, answers in response.topics:
            for partition, error, *_ in answers:
                tp = TopicPartition(topic, partition)
                if error == UnknownTopicOrPartitionError.errno:
                    self.missing.add(tp)
                elif error == OffsetOutOfRangeError.errno and _position(subscription, tp) == asked[tp]:
                    self.out_of_range[tp] = asked[tp]


def _position(subscriptions: Any, partition: TopicPartition) -> int | None:
    assignment = subscriptions.subscription and subscriptions.subscription.assignment
    state = assignment and partition in assignment.tps and assignment.state_value(partition)
    return state.position if state and state.has_valid_position else None


def watch_fetches(client: Any, subscription: Any) -> FetchWatch:
    """Watch the answers to this client's fetches."""
    watch, ask = FetchWatch(), client.send

    async def ask_and_watch(node_id: int, request: Any, **options: Any) -> Any:
        response = await ask(node_id, request, **options)
        if isinstance(request, FetchRequest) and response is not None:
            watch.note(request, response, subscription)
        return response

    client.send = ask_and_watch
    return watch


def consumer(broker: Cluster, *topics: str, group: str | None, client_id: str, **options: Any) -> Consumer:
    """A consumer that commits only on request, and begins a partition without a commit at its first record."""
    return Consumer(
        *topics,
        **broker.options,
        group_id=group,
        client_id=client_id,
        enable_auto_commit=False,
        **{
            "auto_offset_reset": "earliest",
            # The records of an aborted transaction do not count.
            "isolation_level": "read_committed",
            "fetch_max_wait_ms": 100,
            "session_timeout_ms": 15_000,
            "heartbeat_interval_ms": 3_000,
            "max_partition_fetch_bytes": 8 * 1024 * 1024,
            **options,
        },
    )


async def suspects_of(
    consumer: AIOKafkaConsumer, partitions: Collection[TopicPartition]
) -> dict[TopicPartition, Suspect]:
    """The suspects in the committed offsets of the consumer's group."""
    # aiokafka has no public way to the metadata of a committed offset.
    return _suspects_in(await consumer._coordinator.fetch_committed_offsets(list(partitions)))


async def note_suspect(consumer: AIOKafkaConsumer, partition: TopicPartition, note: str) -> None:
    """Write the note to the committed offset of an assigned partition, and leave the offset as it is."""
    offset = await consumer.committed(partition)
    if offset is None:
        offset = (await consumer.beginning_offsets([partition]))[partition]
    await consumer.commit({partition: (offset, note)})


async def suspects_of_group(broker: Cluster, group: str) -> dict[TopicPartition, Suspect]:
    """The suspects in the committed offsets of a group, asked from outside of it."""
    async with admin_client(broker) as admin:
        return _suspects_in(await admin.list_consumer_group_offsets(group))


def _suspects_in(committed: Mapping[TopicPartition, Any]) -> dict[TopicPartition, Suspect]:
    suspects = {partition: suspect_in(offset.metadata) for partition, offset in committed.items()}
    return {partition: suspect for partition, suspect in suspects.items() if suspect is not None}
