"""aiokafka producers and consumers with the settings that our guarantees rest on."""

import asyncio
import logging
import struct
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import (
    KafkaConnectionError,
    KafkaError,
    OffsetOutOfRangeError,
    UnknownTopicOrPartitionError,
)
from aiokafka.protocol.fetch import FetchRequest

from runtime.cluster import Cluster
from runtime.losses import OutOfReach, gone
from runtime.suspect import Suspect, suspect_in

_CANCEL_AGAIN_AFTER = 0.1

_log = logging.getLogger(__name__)


class NotKafkasAnswer(KafkaError):  # type: ignore[misc] # aiokafka has no types
    """The answer is none that Kafka gives: another program listens at the broker's address, or garbles what passes."""


@contextmanager
def only_kafka_errors() -> Iterator[None]:
    """Turn what aiokafka raises at a lost connection or at bytes that no broker sends into a `KafkaError`."""
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

    It never gives a send up while Kafka is away: whoever cannot wait puts a timeout around the await. A batch waits as
    long for company as with Kafka's own producer since 4.0.
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


async def stop_within(producer: AIOKafkaProducer, seconds: float) -> bool:
    """Flush the producer and end it; False if it still held something when the time was up, or could not be ended.

    `AIOKafkaProducer.stop`, once cancelled, leaves its sender running, which would send what it has whenever Kafka is
    back. What is on its way when the time is up may still be written.
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
    """Stop a client that has nothing left to do, waiting for so long at the most.

    While Kafka is away, aiokafka's consumer waits for it in `stop`, or raises what ended its requests.
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
        # It would raise what the task has died of, and leave the connections open.
        producer.client._sync_task = None
    await producer.client.close()
    # Cancelled once, the sender waits for its requests; these may wait for metadata of which nobody asks any more.
    while sender is not None and not sender.done():
        await asyncio.wait([sender], timeout=_CANCEL_AGAIN_AFTER)
        sender.cancel()


def follows_metadata(producer: AIOKafkaProducer) -> bool:
    """Whether the task lives that learns of new leaders and topics. aiokafka does not start it again."""
    task = producer.client._sync_task
    return task is None or not task.done()


class Consumer(AIOKafkaConsumer):  # type: ignore[misc] # aiokafka is untyped
    """A consumer that never jumps: where Kafka no longer has the next record, `getmany` raises `OutOfReach`.

    aiokafka resets such a position and says nothing.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._watch = watch_fetches(self._client, self._subscription)

    @property
    def misses_topics(self) -> bool:
        """Whether a fetch was told since `sees_topics` that its topic does not exist."""
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
    """What fetches were refused: the offsets that came next and are gone, and partitions of topics that are gone."""

    out_of_range: dict[TopicPartition, int] = field(default_factory=dict)
    missing: set[TopicPartition] = field(default_factory=set)

    def note(self, request: FetchRequest, response: Any, subscription: Any) -> None:
        """Take in an answer. One to a fetch from where the consumer no longer is says nothing, as for aiokafka."""
        asked = {TopicPartition(topic, one): offset for topic, parts in request.topics for one, offset, _ in parts}
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
    """Watch what this client's fetches are answered."""
    watch, ask = FetchWatch(), client.send

    async def ask_and_watch(node_id: int, request: Any, **options: Any) -> Any:
        response = await ask(node_id, request, **options)
        if isinstance(request, FetchRequest) and response is not None:
            watch.note(request, response, subscription)
        return response

    client.send = ask_and_watch
    return watch


def consumer(broker: Cluster, *topics: str, group: str | None, client_id: str, **options: Any) -> Consumer:
    """A consumer that commits only when told to, and starts at the beginning of what it has not read."""
    return Consumer(
        *topics,
        **broker.options,
        group_id=group,
        client_id=client_id,
        enable_auto_commit=False,
        **{
            "auto_offset_reset": "earliest",
            # What an automation wrote in a transaction that it aborted was never said.
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
    """What the committed offsets of the consumer's group say of records that ended it."""
    # aiokafka has no public way to the metadata of a committed offset.
    committed = await consumer._coordinator.fetch_committed_offsets(list(partitions))
    found = {partition: suspect_in(offset.metadata) for partition, offset in committed.items()}
    return {partition: suspect for partition, suspect in found.items() if suspect is not None}


async def note_suspect(consumer: AIOKafkaConsumer, partition: TopicPartition, note: str) -> None:
    """Write the note, with a suspect, to the committed offset of an assigned partition, which stays where it is."""
    offset = await consumer.committed(partition)
    if offset is None:
        offset = (await consumer.beginning_offsets([partition]))[partition]
    await consumer.commit({partition: (offset, note)})


async def suspects_of_group(broker: Cluster, group: str) -> dict[TopicPartition, Suspect]:
    """What the committed offsets of a group say of records that ended it, whoever is in the group."""
    admin = AIOKafkaAdminClient(**broker.options)
    try:
        await admin.start()
        committed = await admin.list_consumer_group_offsets(group)
    finally:
        await admin.close()
    found = {partition: suspect_in(offset.metadata) for partition, offset in committed.items()}
    return {partition: suspect for partition, suspect in found.items() if suspect is not None}
