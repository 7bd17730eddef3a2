"""The data-deletion requests that a worker knows: it follows their topic, and adds to it."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import timedelta

from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError
from aiokafka.structs import ConsumerRecord
from msgspec.structs import replace

from ingest.keeper import PATIENCE
from ingest.publisher import Publisher
from messenger.data_deletion import DeletionRequest
from runtime.health import Health
from runtime.kafka import only_kafka_errors
from schemas.codec import Codec, Ids, NotDecodable, deletion_codec
from schemas.registry_client import RegistryFault

# About 40 MB; the status page of an older request says that it is unknown.
MOST_REMEMBERED = 100_000
PART = "data_deletion"

_AGAIN_AFTER = timedelta(seconds=5)
_READ = {"timeout_ms": 1000, "max_records": 5000}

_log = logging.getLogger(__name__)


class RegisterAway(Exception):
    """The register cannot be read or written at the moment: the request must come again."""


class DeletionRegister:
    """The newest `most` requests by their code, without the ids of people.

    Each worker reads the whole topic, so any worker can show any request, a moment after another has taken it.
    `follow` makes consumers of the topic, in no group and from its beginning, that are not started.
    """

    def __init__(
        self,
        publisher: Publisher,
        topic: str,
        follow: Callable[[], AIOKafkaConsumer],
        find_ids: Callable[[], Awaitable[Ids]],
        health: Health,
        *,
        patience: timedelta = PATIENCE,
        most: int = MOST_REMEMBERED,
        again_after: timedelta = _AGAIN_AFTER,
    ) -> None:
        self._publisher, self._topic = publisher, topic
        self._follow, self._find_ids = follow, find_ids
        self._health = health
        self._patience, self._most = patience.total_seconds(), most
        self._again_after = again_after.total_seconds()
        self._codec: Codec[DeletionRequest] | None = None
        self._known: dict[str, DeletionRequest] = {}
        self._is_read = asyncio.Event()
        health.report(PART, ready=False, seen="not read yet")

    async def keep(self, request: DeletionRequest) -> None:
        """Write the request to Kafka, acknowledged by all in-sync replicas; a known one stays as it is.

        Raises `RegisterAway`: then Kafka may or may not have it.
        """
        try:
            async with asyncio.timeout(self._patience):
                await self._is_read.wait()
                if request.code in self._known:
                    return
                assert self._codec is not None
                await self._publisher.put(self._topic, request.code.encode(), self._codec.encode(request))
        except (TimeoutError, KafkaError) as error:
            raise RegisterAway(type(error).__name__) from error
        self._remember(request)

    def find(self, code: str) -> DeletionRequest | None:
        """The request without the person's id. Raises `RegisterAway` until the topic has been read."""
        if not self._is_read.is_set():
            raise RegisterAway("not read yet")
        return self._known.get(code)

    async def stay_informed(self) -> None:
        """Follow the topic until cancelled; after a failure, read it from its beginning again."""
        while True:
            try:
                self._codec = deletion_codec(await self._find_ids())
                consumer = self._follow()
                with only_kafka_errors():
                    try:
                        await consumer.start()
                        await self._read(consumer)
                    finally:
                        await consumer.stop()
            except (KafkaError, RegistryFault) as error:
                fault = str(error) if isinstance(error, RegistryFault) else type(error).__name__
                self._health.report(PART, ready=False, seen=f"not read: {fault}")
                _log.warning("deletion_requests.unread", extra={"reason": type(error).__name__})
            await asyncio.sleep(self._again_after)

    async def _read(self, consumer: AIOKafkaConsumer) -> None:
        unread = await consumer.end_offsets(consumer.assignment())
        while True:
            if unread and all([await consumer.position(partition) >= end for partition, end in unread.items()]):
                unread = {}
                self._is_read.set()
                self._health.report(PART, ready=True, seen="read")
            for records in (await consumer.getmany(**_READ)).values():
                for record in records:
                    self._take(record)

    def _take(self, record: ConsumerRecord) -> None:
        assert self._codec is not None
        if record.value is None:
            self._known.pop((record.key or b"").decode(errors="replace"), None)
            return
        try:
            self._remember(self._codec.decode(record.value))
        except NotDecodable as fault:
            place = {"topic": record.topic, "partition": record.partition, "offset": record.offset}
            _log.warning("deletion_request.unreadable", extra={**place, "reason": str(fault)})

    def _remember(self, request: DeletionRequest) -> None:
        self._known.pop(request.code, None)
        self._known[request.code] = replace(request, user_id=None)
        if len(self._known) > self._most:
            del self._known[next(iter(self._known))]
