"""One attempt of a delivery: nothing of an erased person leaves, however late the erasure becomes known."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest
from aiokafka import TopicPartition

from leads.erasures import Erasures, erasure_record, salt_record
from runtime.metrics import Metrics
from sinks.deliver.client import Answer
from sinks.deliver.courier import Courier
from sinks.deliver.destination import Destination
from sinks.deliver.next_step import DeliverLimits, Fortune
from sinks.deliver.outlet import Outlet
from sinks.deliver.queue import Item
from sinks.deliver.records import Delivery
from tests.builders import NOON, PAGE, PERSON, a_lead
from tests.receiver import SECRET
from tests.unit.sinks.fakes import Clock

pytestmark = pytest.mark.anyio

_SALT = b"s" * 32


class Ledger:
    """Notes the entries, which are durable at once."""

    def __init__(self) -> None:
        self.entries: list[Delivery] = []

    async def append(self, _partition: int, entry: Delivery) -> None:
        self.entries.append(entry)


@dataclass
class Client:
    """A connection that takes its time."""

    clock: Clock
    takes: timedelta = timedelta(0)
    posted: int = 0

    async def post(self, _headers: Mapping[str, str], _body: bytes, may_leave: Callable[[], bool]) -> Answer:
        self.clock.advance(self.takes)
        if not may_leave():
            return Answer(fault="timeout")
        self.posted += 1
        return Answer(status=200)


@dataclass
class World:
    takes: timedelta = timedelta(0)
    # Entries of the register that no reader has yet.
    unread: list[tuple[bytes, bytes]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.clock, self.ledger, self.erasures = Clock(NOON), Ledger(), Erasures()
        self.client: Any = Client(self.clock, self.takes)
        ledger: Any = self.ledger
        self.courier = Courier(ledger, self.erasures, self._catch_up, self.clock, Metrics(), self._uptime)

    def _uptime(self) -> timedelta:
        return self.clock() - NOON

    async def _catch_up(self, *, to_end: bool = False) -> None:
        assert to_end
        for entry in self.unread:
            self.erasures.note(*entry)

    async def deliver(self) -> list[str]:
        """The statuses in the ledger."""
        lead, limits = a_lead(), DeliverLimits()
        destination = Destination(name="crm", url="https://crm.test/", secrets=(SECRET,))
        outlet = Outlet(destination, self.client, limits, Fortune(limits, lambda: 0.5))
        await self.courier.carry_out(
            outlet, Item(TopicPartition("leads", 0), 0, "lead", lead.lead_id, lead, self.clock())
        )
        return [entry.status for entry in self.ledger.entries]


async def test_an_erasure_that_came_before_the_attempt_is_known_before_the_call() -> None:
    world = World(unread=[salt_record(_SALT), erasure_record(_SALT, PAGE, PERSON, NOON)])

    assert await world.deliver() == ["attempting", "erased"]
    assert world.client.posted == 0


async def test_a_process_that_was_frozen_before_its_call_does_not_make_it() -> None:
    world = World(takes=timedelta(seconds=6))

    assert await world.deliver() == ["attempting", "waiting"]
    assert world.client.posted == 0


async def test_a_call_leaves_once_the_connection_stands() -> None:
    world = World(takes=timedelta(seconds=4))

    assert await world.deliver() == ["attempting", "delivered"]
    assert world.client.posted == 1
