"""Keeps each delivery: in Kafka when Kafka answers in time, else in the spool until Kafka has it."""

import asyncio
import logging
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

from aiokafka.errors import KafkaError
from aiokafka.structs import RecordMetadata

from ingest.delivery_state import AHEAD, State, States
from ingest.publisher import REFUSALS, Delivery, NotDurable, Publisher
from ingest.spool.file import Spooled
from ingest.spool.queue import Spool, SpoolFault
from runtime.kafka import only_kafka_errors

# How long Kafka may take before the spool is used. Meta allows 5 seconds in all, and treats a later answer as none.
# https://developers.facebook.com/documentation/business-messaging/messenger-platform/webhooks
PATIENCE = timedelta(seconds=2)
# With so few ahead of it in the spool, a delivery reaches Kafka sooner than it would reach the disk behind them.
_NEARLY_DRAINED = 200
_RETRY_AFTER = timedelta(milliseconds=500)
# How often refused deliveries are sent again: the topic's limit may have been raised meanwhile.
_TRY_REFUSED_AGAIN = timedelta(minutes=10)

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class InKafka:
    """The place of each copy of a delivery in Kafka, acknowledged by all in-sync replicas."""

    places: tuple[str, ...]

    def __str__(self) -> str:
        return ",".join(self.places)


@dataclass(frozen=True, slots=True)
class InSpool:
    """The place of a delivery on disk until it is in Kafka."""

    spool: str
    position: int

    def __str__(self) -> str:
        return f"spool/{self.spool}/{self.position}"


Receipt = InKafka | InSpool


class Keeper:
    """Keeps deliveries, so that the order of answers is also the order in Kafka.

    `keep` is called by any number of requests at once, `drain` runs once beside them. While a delivery in the spool is
    WAITING or SUSPECT, new deliveries go behind it. A SENT delivery holds nothing up, because the producer keeps the
    order; it stays in the spool until all its copies are acknowledged. So only a crash, a lost producer, or a stall
    between two copies of a delivery writes a record twice.
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
        self._states = States(spool.count)
        # Kafka did not answer in time, and nothing was acknowledged since.
        self._stalled = False
        # A send failed, so the drain reads the spool from its beginning.
        self._start_again = False

    async def keep(self, delivery: Delivery) -> Receipt:
        """Make one delivery durable and return its place.

        Waits up to `patience` for Kafka, then for the spool's disk; does not wait for a Kafka that is known to be away.
        Raises `SpoolFull` or `SpoolFault`: the delivery may be in Kafka, and Meta must deliver it again.
        Cancelled during the wait for the disk, the delivery still goes into the spool.
        """
        sent = None
        if self._kafka_is_near:
            try:
                async with asyncio.timeout(self._patience):
                    await self._states.none_ahead.wait()
                    sent = await self._publisher.send(delivery)
                    with only_kafka_errors():
                        records = await asyncio.shield(sent)
                return InKafka(tuple(f"{record.topic}/{record.partition}/{record.offset}" for record in records))
            except REFUSALS:
                # Kafka answers, so it is not stalled; the drain finds out which delivery of the batch is at fault.
                pass
            except (TimeoutError, KafkaError) as error:
                if not self._stalled:
                    _log.warning("spool.entered", extra={"reason": type(error).__name__})
                self._stalled = True
        # Finished even when the request is cancelled: the states depend on it.
        return await asyncio.shield(self._spool(delivery, sent))

    @property
    def waiting(self) -> int:
        """The number of spooled deliveries that are on their way to Kafka."""
        return self.spool.count - self.set_aside

    @property
    def set_aside(self) -> int:
        """The number of spooled deliveries that Kafka refuses."""
        return self._states.count[State.SET_ASIDE]

    @property
    def is_draining(self) -> bool:
        return self.waiting > 0 and not self._stalled

    @property
    def _kafka_is_near(self) -> bool:
        # With an empty spool, this delivery finds out whether Kafka is back.
        return self.waiting == 0 or (not self._stalled and self._states.ahead <= _NEARLY_DRAINED)

    async def _spool(self, delivery: Delivery, sent: "asyncio.Future[list[RecordMetadata]] | None") -> InSpool:
        # Before the disk has it: deliveries that come meanwhile go behind it.
        self._states.add(delivery, State.WAITING if sent is None else State.SENT)
        try:
            position = await self.spool.append(delivery)
        except NotDurable:
            self._states.remove(delivery)
            raise
        if sent is not None:
            sent.add_done_callback(partial(self._settle, Spooled(position, delivery)))
        return InSpool(self.spool.name, position)

    async def drain(self) -> None:
        """Give spooled deliveries to the producer, in the order of the spool, until cancelled.

        Waits for a spooled delivery, for the producer, and `_RETRY_AFTER` after a fault of either. Raises nothing.
        A delivery that Kafka refuses in a batch of its own is set aside, and those behind it go on. It is sent again
        after each `try_refused_again` and at the next start.
        """
        after = 0
        while True:
            try:
                async with asyncio.timeout(self._try_refused_again if self.set_aside else None):
                    await self._states.some_ahead.wait()
            except TimeoutError:
                # The refused deliveries go again, each alone and in its place in the order.
                self._states.suspect_set_aside()
                self._start_again = True
            self._states.some_ahead.clear()
            if self._start_again:
                after = await self._beginning()
            while not self._start_again and (batch := await self._read(after)):
                for spooled in batch:
                    if not await self._hand_over(spooled):
                        break
                    after = spooled.position

    async def _beginning(self) -> int:
        """Wait until no delivery is SENT, so that no further one overtakes the failed delivery."""
        await asyncio.sleep(_RETRY_AFTER.total_seconds())
        while self._states.count[State.SENT]:
            await self._states.none_sent.wait()
        self._start_again = False
        return 0

    async def _read(self, after: int) -> list[Spooled]:
        while True:
            # The read may still return a delivery that is acknowledged during it, and none from before it.
            self._states.forget_in_kafka()
            try:
                return await self.spool.read(after)
            except SpoolFault as fault:
                _log.error("spool.unreadable", extra={"reason": str(fault)})
                await asyncio.sleep(_RETRY_AFTER.total_seconds())

    async def _hand_over(self, spooled: Spooled) -> bool:
        """True once the delivery is no longer WAITING or SUSPECT; False when an earlier one must go first after all."""
        while (state := self._states.of(spooled.delivery)) in AHEAD:
            if self._start_again:
                return False
            try:
                if state is State.SUSPECT:
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
            self._states.move(spooled.delivery, State.SENT)
            sent.add_done_callback(partial(self._settle, spooled))
        return True

    async def _hand_over_alone(self, spooled: Spooled) -> None:
        """Send once no other delivery is SENT, because a refusal would fail those too."""
        if self._states.count[State.SENT]:
            await self._states.none_sent.wait()
            return
        await self._publisher.send_alone(spooled.delivery)
        self._acknowledged(spooled)

    def _put_aside(self, spooled: Spooled, refusal: KafkaError) -> None:
        self._states.move(spooled.delivery, State.SET_ASIDE)
        self._stalled = False
        _log.error(
            "spool.set_aside",
            extra={
                "delivery_id": spooled.delivery.id,
                "receipt": str(InSpool(self.spool.name, spooled.position)),
                "bytes": len(spooled.delivery.body),
                "reason": type(refusal).__name__,
            },
        )

    def _settle(self, spooled: Spooled, sent: "asyncio.Future[list[RecordMetadata]]") -> None:
        error = None if sent.cancelled() else sent.exception()
        if error is None and not sent.cancelled():
            self._acknowledged(spooled)
            return
        self._states.move(spooled.delivery, State.SUSPECT if isinstance(error, REFUSALS) else State.WAITING)
        self._start_again = True

    def _acknowledged(self, spooled: Spooled) -> None:
        self._states.move(spooled.delivery, State.IN_KAFKA)
        self._stalled = False
        self.spool.remove(spooled)
        if self.waiting == 0:
            _log.info("spool.drained")
