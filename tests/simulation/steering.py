"""The operator of the destinations, who disables, enables and tries again: the steps of `operations.deliver`."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from datetime import timedelta
from typing import Any

from aiokafka import TopicPartition
from msgspec.structs import replace

from operations.audit.history import Finding, History, place_of
from runtime.clock import now
from schemas.topics import DELIVERIES, LEADS, OUTCOMES
from sinks.deliver.records import OPEN, Delivery, DisabledReason, Entry, Position, Standing, decode, encode
from tests.simulation.deliveries import Arrival, differences
from tests.simulation.loop import Process
from tests.simulation.meta import CALL_SECONDS, WAY_SECONDS
from tests.simulation.plan import Trouble
from tests.simulation.producer import SimulatedProducer
from tests.simulation.receivers import DESTINATIONS, HURT, ILLS, USUAL
from tests.simulation.stages import Machine


class Operator:
    """Steers the destination that hurts, and makes it ill."""

    def __init__(self, machine: Machine, note: Callable[[str], None]) -> None:
        self._machine, self._hurt, self._note = machine, machine.receivers[HURT], note
        self._turn = asyncio.Lock()

    def trouble(self, trouble: Trouble) -> None:
        """Let the destination be ill for a while, or disable it; afterwards it is enabled, or all is tried again."""
        ends = self._enable
        if trouble.kind == "steer":
            self._start(self._set_standing("operator"))
        else:
            self._hurt.ill = ILLS[trouble.luck % len(ILLS)]
            ends = self._mend
        self._note(f"trouble: {trouble.kind} {HURT} {self._hurt.ill} {trouble.seconds:.1f}")
        self._machine.loop.call_later(trouble.seconds, ends, context=self._machine.loop.outside)

    def heal(self) -> None:
        """All is well from now on; a 410 may still be on its way."""
        self._hurt.ill = ""
        self._machine.loop.call_later(2 * CALL_SECONDS, self._enable, context=self._machine.loop.outside)

    def _mend(self) -> None:
        was_gone, self._hurt.ill = self._hurt.ill == "gone", USUAL if self._hurt.ill else ""
        if was_gone:
            self._enable()
        else:
            self._start(self._retry())

    def _enable(self) -> None:
        self._start(self._set_standing(None))

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        self._machine.loop.start(Process("operator"), work)

    async def _set_standing(self, disabled: DisabledReason | None) -> None:
        standing = Standing(destination=HURT, at=now(), disabled=disabled)
        await self._write([(number, standing) for number in range(self._machine.broker.partitions)])

    async def _retry(self) -> None:
        last = {entry.key: (partition, entry) for partition, entry in self._entries() if isinstance(entry, Delivery)}
        asked_for = [
            (partition, replace(entry, status="due", attempts=0, next_at=None, at=now()))
            for partition, entry in last.values()
            if entry.destination == HURT and (entry.status in OPEN or entry.status == "failed")
        ]
        await self._write(asked_for)

    def _entries(self) -> list[tuple[int, Entry]]:
        records = self._machine.broker.records(DELIVERIES.name)
        return [(record.partition, entry) for record in records if (entry := decode(record.value)) is not None]

    async def _write(self, entries: Sequence[tuple[int, Entry]]) -> None:
        producer = SimulatedProducer(self._machine.broker)
        await producer.start()
        async with self._turn:
            for partition, entry in entries:
                await producer.send_and_wait(DELIVERIES.name, encode(entry), key=entry.key, partition=partition)

    def arrivals(self) -> list[Arrival]:
        """The deliveries that the endpoints got."""
        return [arrival for receiver in self._machine.receivers.values() for arrival in receiver.arrivals]

    def findings(self, history: History) -> list[Finding]:
        """Everything that is wrong with the deliveries."""
        logs, way = self._machine.broker.logs.values(), timedelta(seconds=WAY_SECONDS)
        compacted = {place_of(record) for log in logs for record in log.compacted()}
        return sorted(set(differences(history, self.arrivals(), DESTINATIONS, compacted, way)))

    def sees_all_delivered(self) -> bool:
        """Whether each destination is as far as the records, by its positions."""
        positions = {
            (entry.destination, partition): (entry.leads, entry.outcomes)
            for partition, entry in self._entries()
            if isinstance(entry, Position)
        }

        def end(topic: str, partition: int) -> int:
            return self._machine.broker.log(TopicPartition(topic, partition)).end

        return positions == {
            (name, number): (end(LEADS.name, number), end(OUTCOMES.name, number) if name == HURT else None)
            for name in self._machine.receivers
            for number in range(self._machine.broker.partitions)
        }
