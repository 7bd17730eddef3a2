"""Carries out one attempt of a delivery, and writes it into the ledger before and after."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from msgspec.structs import replace

from leads.erasures import Erasures
from leads.records import FollowUpOutcome, Lead
from runtime.clock import uptime
from runtime.metrics import Metrics
from runtime.topic_reading import CatchUp
from sinks.deliver.client import MAX_BODY, Answer
from sinks.deliver.ledger import DeliveryLedger
from sinks.deliver.next_step import verdict_of
from sinks.deliver.outlet import Outlet, revision_of
from sinks.deliver.payload import Message, headers_of, message_of_erasure, message_of_lead, message_of_outcome
from sinks.deliver.queue import Item
from sinks.deliver.records import Delivery, Standing, Status
from sinks.latest_erasures import LatestErasures

# The result of a delivery whose body is larger than `MAX_BODY`.
BODY_TOO_LARGE: Final = "body_too_large"
# A process that was frozen for longer may have lost the partition, and the next holder may have told of the erasure.
_ERASURES_STAY_KNOWN = timedelta(seconds=5)


@dataclass(slots=True)
class Courier:
    """Makes one call at a time for a lead. All methods are called from tasks of one event loop.

    Before a call its `attempting` is durable, so that a process that has lost the partition learns so and makes none,
    and so that an erasure knows where a lead may be. Then the register of erasures is read to its end: an erasure
    that is not there yet will find the attempt.
    """

    ledger: DeliveryLedger
    erasures: Erasures
    catch_up: CatchUp
    clock: Callable[[], datetime]
    metrics: Metrics
    uptime: Callable[[], timedelta] = uptime
    closing: bool = field(default=False)
    _latest: LatestErasures[timedelta] = field(init=False)

    def __post_init__(self) -> None:
        self._latest = LatestErasures(self.catch_up, self.uptime)

    async def carry_out(self, outlet: Outlet, item: Item) -> datetime | None:
        """Make an attempt; gives the time of the next one, None when the delivery is settled.

        Raises `Fenced` as the ledger does.
        """
        if self._is_erased(item):
            await self._end_erased(outlet, item)
            return None
        message, now = _message(outlet, item), self.clock()
        body = message.body.encode()
        if len(body) > MAX_BODY:
            await self._note(outlet, item, message, "failed", result=BODY_TOO_LARGE)
            return None
        await self._note(outlet, item, message, "attempting", first_at=(item.last and item.last.first_at) or now)
        read_at = await self._latest.read()
        if self._is_erased(item):
            await self._end_erased(outlet, item)
            return None
        if self.closing or outlet.disabled or not self._is_recent(read_at):
            return self.clock()
        headers = headers_of(outlet.destination, message, self.clock())
        answer = await outlet.client.post(headers, body, lambda: self._is_recent(read_at))
        return await self._after(outlet, item, message, answer)

    def _is_recent(self, read_at: timedelta) -> bool:
        return self.uptime() <= read_at + _ERASURES_STAY_KNOWN

    async def _after(self, outlet: Outlet, item: Item, message: Message, answer: Answer) -> datetime | None:
        verdict = verdict_of(answer, is_erasure=item.kind == "erasure")
        name, now, result = outlet.destination.name, self.clock(), str(answer)
        self.metrics.deliveries.labels(name, "delivered" if verdict == "delivered" else _kind_of(answer)).inc()
        if verdict == "delivered":
            if outlet.fortune.succeed():
                outlet.queue.hasten(now)
            await self._note(outlet, item, message, "delivered", result=result)
            if item.record is not None:
                self.metrics.delivery_seconds.observe(max((now - _made_at(item.record)).total_seconds(), 0))
            return None
        outlet.fortune.fail(answer, now)
        if verdict == "gone":
            await self._disable(outlet)
        attempts = (item.last.attempts if item.last else 0) + (not outlet.fortune.is_failing)
        pause = outlet.fortune.again_after(attempts, answer)
        if pause is None and item.kind != "erasure":
            await self._note(outlet, item, message, "failed", attempts=attempts, result=result)
            return None
        again_at = now + (outlet.limits.schedule[-1] if pause is None else pause)
        next_at = max(again_at, outlet.fortune.held_until or again_at)
        await self._note(outlet, item, message, "waiting", attempts=attempts, next_at=next_at, result=result)
        return min(item.since, now) if outlet.fortune.tries_the_same() else again_at

    async def _disable(self, outlet: Outlet) -> None:
        outlet.disabled, name = "gone", outlet.destination.name
        for partition, book in self.ledger.books_of(name):
            if book.disabled is None:
                await self.ledger.append(partition, Standing(destination=name, at=self.clock(), disabled="gone"))

    def _is_erased(self, item: Item) -> bool:
        record = item.record
        return record is not None and self.erasures.cover(record.page_id, record.psid, _made_at(record))

    async def _end_erased(self, outlet: Outlet, item: Item) -> None:
        """The person was erased. An attempted delivery gets an erasure of its own, which `erase` asks for."""
        self.metrics.deliveries.labels(outlet.destination.name, "erased").inc()
        if item.last is not None:
            await self._note(outlet, item, _message(outlet, item), "erased")

    async def _note(
        self,
        outlet: Outlet,
        item: Item,
        message: Message,
        status: Status,
        *,
        attempts: int | None = None,
        first_at: datetime | None = None,
        next_at: datetime | None = None,
        result: str = "",
    ) -> None:
        last = item.last or Delivery(
            destination=outlet.destination.name,
            kind=item.kind,
            subject=item.subject,
            lead_id=item.subject if item.record is None else item.record.lead_id,
            webhook_id=message.webhook_id,
            status=status,
            at=self.clock(),
            offset=item.offset,
            revision=revision_of(item.record),
        )
        entry = replace(last, status=status, at=self.clock(), next_at=next_at, result=result or last.result)
        if attempts is not None:
            entry = replace(entry, attempts=attempts)
        if first_at is not None:
            entry = replace(entry, first_at=first_at)
        item.last = entry
        await self.ledger.append(item.place.partition, entry)


def _message(outlet: Outlet, item: Item) -> Message:
    match item.record:
        case Lead() as lead:
            return message_of_lead(outlet.destination, lead)
        case FollowUpOutcome() as outcome:
            return message_of_outcome(outlet.destination, outcome)
        case None:
            assert item.last is not None, "an erasure has an entry from the start"
            return message_of_erasure(outlet.destination, item.subject, item.last.first_at or item.last.at)


def _made_at(record: Lead | FollowUpOutcome) -> datetime:
    return record.updated_at if isinstance(record, Lead) else record.occurred_at


def _kind_of(answer: Answer) -> str:
    """A label with few values."""
    return str(answer.fault) if answer.status is None else f"http_{answer.status // 100}xx"
