"""Keeps each delivery: in Kafka when it answers in time, else in the spool until Kafka has it."""

import asyncio
import logging
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

from aiokafka.errors import KafkaError
from aiokafka.structs import RecordMetadata

from ingest.publisher import REFUSALS, Delivery, NotDurable, Publisher
from ingest.spool.file import Spooled
from ingest.spool.queue import Spool, SpoolFault
from runtime.kafka import only_kafka_errors

# How long Kafka may take before the spool is asked. Meta gives us 5 seconds in all, and counts a later answer as none.
# https://developers.facebook.com/documentation/business-messaging/messenger-platform/webhooks
PATIENCE = timedelta(seconds=2)
# So few in the spool are with Kafka sooner than a new delivery is on disk behind them.
_NEARLY_DRAINED = 200
_RETRY_AFTER = timedelta(milliseconds=500)
# How often what Kafka refuses is tried again: somebody may have mended the topic meanwhile.
_TRY_REFUSED_AGAIN = timedelta(minutes=10)

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class InKafka:
    """Where a delivery lies, acknowledged by all in-sync replicas."""

    topic: str
    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.topic}/{self.partition}/{self.offset}"


@dataclass(frozen=True, slots=True)
class InSpool:
    """Where a delivery lies on disk until it is in Kafka."""

    spool: str
    position: int

    def __str__(self) -> str:
        return f"spool/{self.spool}/{self.position}"


Receipt = InKafka | InSpool


class Keeper:
    """Keeps deliveries in an order that Kafka shows too: what was answered goes before all that came after the answer.

    A delivery is *handed over* once the producer has it, and the producer keeps the order. While something in the
    spool is not handed over, new deliveries go behind it. One that was handed over and not acknowledged in time is in
    the spool as well, to survive a crash; its acknowledgement removes it, so that only a crash, or a producer that is
    lost, makes a second copy of it.

    A delivery that Kafka refuses in a batch of its own is *set aside*: it stays in the spool, those behind it go on,
    and it is tried again every `try_refused_again` and at the next start.
    """

    def __init__(
        self,
        publisher: Publisher,
        spool: Spool,
        *,
        patience: timedelta = PATIENCE,
        try_refused_again: timedelta = _TRY_REFUSED_AGAIN,
    ) -> None:
        self._publisher = publisher
        self.spool = spool
        self._patience = patience.total_seconds()
        self._try_refused_again = try_refused_again.total_seconds()
        self._to_hand_over = spool.count
        self._all_handed_over = asyncio.Event()
        self._work = asyncio.Event()
        self._handed_over: dict[str, asyncio.Future[RecordMetadata]] = {}
        self._settled: set[str] = set()
        # Refused, maybe for the sake of others in the batch.
        self._suspects: set[str] = set()
        self._set_aside: dict[int, str] = {}
        self._stalled = False
        self._start_again = False
        self._count(0)

    async def keep(self, delivery: Delivery) -> Receipt:
        """Where the delivery lies, once it does. Raises `NotDurable` when neither Kafka nor the spool has it."""
        sent = None
        if self._kafka_is_near:
            try:
                async with asyncio.timeout(self._patience):
                    await self._all_handed_over.wait()
                    sent = await self._publisher.send(delivery)
                    with only_kafka_errors():
                        record = await asyncio.shield(sent)
                return InKafka(record.topic, record.partition, record.offset)
            except REFUSALS:
                # Kafka is there, so the spool does not wait for it: it finds out which delivery was refused.
                pass
            except (TimeoutError, KafkaError) as error:
                if not self._stalled:
                    _log.warning("spool.entered", extra={"reason": type(error).__name__})
                self._stalled = True
        # Once begun it is finished, whatever becomes of the request: the counts depend on it.
        return await asyncio.shield(self._spool(delivery, sent))

    @property
    def waiting(self) -> int:
        """How many in the spool are on their way to Kafka."""
        return self.spool.count - self.set_aside

    @property
    def set_aside(self) -> int:
        """How many in the spool Kafka refuses."""
        return len(self._set_aside)

    @property
    def is_draining(self) -> bool:
        return self.waiting > 0 and not self._stalled

    @property
    def _kafka_is_near(self) -> bool:
        # With nothing that waits, this delivery is the one that finds out whether Kafka is back.
        return self.waiting == 0 or (not self._stalled and self._to_hand_over <= _NEARLY_DRAINED)

    async def _spool(self, delivery: Delivery, sent: "asyncio.Future[RecordMetadata] | None") -> InSpool:
        if sent is None:
            self._count(+1)
        else:
            self._handed_over[delivery.id] = sent
        try:
            position = await self.spool.append(delivery)
        except NotDurable:
            if sent is None:
                self._count(-1)
            else:
                del self._handed_over[delivery.id]
            raise
        if sent is not None:
            sent.add_done_callback(partial(self._settle, Spooled(position, delivery)))
        return InSpool(self.spool.name, position)

    async def drain(self) -> None:
        """Hand over what is in the spool, in its order, whenever there is something; until cancelled."""
        after = 0
        while True:
            try:
                async with asyncio.timeout(self._try_refused_again if self._set_aside else None):
                    await self._work.wait()
            except TimeoutError:
                self._take_back()
            self._work.clear()
            if self._start_again:
                after = await self._beginning()
            while not self._start_again and (waiting := await self._read(after)):
                for spooled in waiting:
                    if not await self._hand_over(spooled):
                        break
                    after = spooled.position

    async def _beginning(self) -> int:
        """Wait until nothing is under way, so that what follows a failure does not overtake it any further."""
        await asyncio.sleep(_RETRY_AFTER.total_seconds())
        while self._handed_over:
            await asyncio.wait(self._handed_over.values())
            await asyncio.sleep(0)
        self._start_again = False
        return 0

    async def _read(self, after: int) -> list[Spooled]:
        while True:
            # What is settled by now is not read again; what is settled from now on may have been.
            self._settled.clear()
            try:
                return await self.spool.read(after)
            except SpoolFault as fault:
                _log.error("spool.unreadable", extra={"reason": str(fault)})
                await asyncio.sleep(_RETRY_AFTER.total_seconds())

    async def _hand_over(self, spooled: Spooled) -> bool:
        """Whether the producer has it; not when something before it must go first after all."""
        delivery_id = spooled.delivery.id
        while not (
            delivery_id in self._handed_over or delivery_id in self._settled or spooled.position in self._set_aside
        ):
            if self._start_again:
                return False
            try:
                if delivery_id in self._suspects:
                    await self._hand_over_alone(spooled)
                    continue
                sent = await self._publisher.send(spooled.delivery)
            except REFUSALS as refusal:
                self._put_aside(spooled, refusal)
                continue
            except KafkaError as error:
                _log.warning("spool.not_drained", extra={"reason": type(error).__name__})
                await asyncio.sleep(_RETRY_AFTER.total_seconds())
                continue
            self._handed_over[delivery_id] = sent
            sent.add_done_callback(partial(self._settle, spooled))
            self._count(-1)
        return True

    async def _hand_over_alone(self, spooled: Spooled) -> None:
        """Behind all that is under way, which a refusal would take along."""
        if self._handed_over:
            await asyncio.wait(self._handed_over.values())
            await asyncio.sleep(0)
            return
        await self._publisher.send_alone(spooled.delivery)
        self._suspects.discard(spooled.delivery.id)
        self._count(-1)
        self._forget(spooled)

    def _put_aside(self, spooled: Spooled, refusal: KafkaError) -> None:
        self._set_aside[spooled.position] = spooled.delivery.id
        self._stalled = False
        self._count(-1)
        _log.error(
            "spool.set_aside",
            extra={
                "delivery_id": spooled.delivery.id,
                "receipt": str(InSpool(self.spool.name, spooled.position)),
                "bytes": len(spooled.delivery.body),
                "reason": type(refusal).__name__,
            },
        )

    def _take_back(self) -> None:
        """What was set aside goes first again, each alone, since its place in the order is before all that came."""
        self._suspects.update(self._set_aside.values())
        self._count(len(self._set_aside))
        self._set_aside.clear()
        self._start_again = True

    def _settle(self, spooled: Spooled, sent: "asyncio.Future[RecordMetadata]") -> None:
        del self._handed_over[spooled.delivery.id]
        if sent.cancelled() or (error := sent.exception()) is not None:
            if not sent.cancelled() and isinstance(error, REFUSALS):
                self._suspects.add(spooled.delivery.id)
            self._count(+1)
            self._start_again = True
            return
        self._forget(spooled)

    def _forget(self, spooled: Spooled) -> None:
        """Kafka has it."""
        self._settled.add(spooled.delivery.id)
        self._stalled = False
        self.spool.remove(spooled)
        if self.waiting == 0:
            _log.info("spool.drained")

    def _count(self, change: int) -> None:
        self._to_hand_over += change
        if self._to_hand_over:
            self._all_handed_over.clear()
            self._work.set()
        else:
            self._all_handed_over.set()
