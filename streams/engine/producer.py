"""A Faust producer that watches every delivery and writes only while its worker is a member of the group."""

import asyncio
from collections.abc import Awaitable, Collection, Iterable, Iterator
from typing import Any

from aiokafka.errors import KafkaError, KafkaTimeoutError
from aiokafka.protocol.produce import ProduceRequest
from faust.transport.drivers import aiokafka as driver

from runtime.batches import Delivery, Outgoing, hand_over
from runtime.tracing import TRACEPARENT
from streams.engine.lease import MembershipLost

_LEASE_POLL = 0.05


class DeliveryFailed(Exception):
    """A record was not acked by Kafka, so nothing that depends on it may be committed."""


class _MayNotWrite(KafkaError):  # type: ignore[misc] # aiokafka is untyped to us
    """Makes aiokafka fail a batch instead of retrying it: this worker has failed, or is no member of the group."""


def _traced(records: Iterable[Outgoing], trace: bytes) -> Iterator[Outgoing]:
    """The records with the span that writes them; a dead letter keeps the one of its record."""
    for topic, key, value, headers, partition in records:
        named = any(name == TRACEPARENT for name, _ in headers or ())
        yield topic, key, value, headers if named else [*(headers or ()), (TRACEPARENT, trace)], partition


class Producer(driver.Producer):  # type: ignore[misc]
    """An idempotent producer that watches every delivery and writes only while the worker holds its lease.

    Each produce request waits for the lease, at most `request_timeout`; without it the batch fails and is not retried.
    Records keep their order in a partition, and those that one call gives a partition share a batch and its future.
    After the first failed delivery every `send_all`, `hand_over` and `flush` raises `DeliveryFailed`, for as long as
    the producer lives: the records may or may not be in Kafka, so no offset that depends on them may be committed.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        self._unacked: set[Delivery] = set()
        self._failure: BaseException | None = None

    def _settings_extra(self) -> dict[str, Any]:
        return {"acks": "all", "enable_idempotence": True}

    def _new_producer(self, transactional_id: str | None = None) -> Any:
        producer = super()._new_producer(transactional_id)
        ask = producer.client.send

        async def ask_while_member(node_id: int, request: Any, **options: Any) -> Any:
            if isinstance(request, ProduceRequest):
                await self._wait_for_lease()
            return await ask(node_id, request, **options)

        producer.client.send = ask_while_member
        return producer

    async def _wait_for_lease(self) -> None:
        consumer = self.app.consumer
        try:
            async with asyncio.timeout(self.request_timeout):
                while consumer.failure is None and not consumer.lease.holds():  # noqa: ASYNC110 - a thread renews it
                    await asyncio.sleep(_LEASE_POLL)
        except (MembershipLost, TimeoutError) as error:
            raise _MayNotWrite from error
        if consumer.failure is not None:
            raise _MayNotWrite

    async def send_all(self, records: Iterable[Outgoing]) -> None:
        """Send the records and wait, up to `request_timeout`, until all are durable. Raises `DeliveryFailed`."""
        await self._all_acked(await self._handed_over(records))

    async def hand_over(self, records: Iterable[Outgoing]) -> None:
        """Send the records without waiting for their acks, only for room in the producer's buffer.

        The next `flush` waits for the acks, and every commit begins with one. Raises `DeliveryFailed` once any delivery
        has failed.
        """
        await self._handed_over(records)
        self._raise_failure()

    async def _handed_over(self, records: Iterable[Outgoing]) -> list[Delivery]:
        deliveries: list[Delivery] = []

        def watch(delivery: Delivery) -> None:
            self._watch(delivery)
            deliveries.append(delivery)

        trace = self.app.tracing.traceparent()
        try:
            await hand_over(self._ensure_producer(), records if trace is None else _traced(records, trace), watch)
        except KafkaError as error:
            self._failure = error
        return deliveries

    async def send(self, *args: Any, **options: Any) -> Awaitable[Any]:
        delivery: Delivery = await super().send(*args, **options)
        self._watch(delivery)
        return delivery

    def send_soon(self, fut: Any) -> None:
        self._watch(fut)
        super().send_soon(fut)

    def _watch(self, delivery: Delivery) -> None:
        self._unacked.add(delivery)
        delivery.add_done_callback(self._acked)

    def _acked(self, delivery: Delivery) -> None:
        self._unacked.discard(delivery)
        if not delivery.cancelled() and delivery.exception() is not None:
            self._failure = delivery.exception()

    async def flush(self) -> None:
        """Wait, up to `request_timeout`, until all records handed over are durable. Raises `DeliveryFailed`."""
        await self._all_acked(self._unacked)

    async def _all_acked(self, deliveries: Collection[Delivery]) -> None:
        if deliveries:
            # aiokafka itself never gives up on a batch of an idempotent producer.
            _, late = await asyncio.wait(deliveries, timeout=self.request_timeout)
            if late:
                self._failure = KafkaTimeoutError(f"{len(late)} records in {self.request_timeout} seconds")
        self._raise_failure()

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise DeliveryFailed(f"not acked by Kafka: {type(self._failure).__name__}") from self._failure
