"""The spool as the event loop sees it: one writer thread, one fsync for all that waits, a bound on its size."""

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from ingest.publisher import Delivery, NotDurable
from ingest.spool.file import ROW_OVERHEAD, Spooled, SpoolFile

T = TypeVar("T")


class SpoolFull(NotDurable):
    """The spool has no room for this delivery."""


class SpoolFault(NotDurable):
    """The disk does not take the delivery; the message is SQLite's."""


@dataclass(slots=True)
class _Arrival:
    delivery: Delivery
    position: "asyncio.Future[int]"


class Spool:
    """Deliveries that wait for Kafka. `count` and `size` are those of all that is in it or on its way in.

    Raises `SpoolUnusable`.
    """

    def __init__(self, path: Path, limit: int) -> None:
        self.name = path.stem
        self._file = SpoolFile(path)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="spool")
        self._limit = limit
        self.count, self.size = self._file.contents()
        self._arrivals: list[_Arrival] = []
        self._drained: list[int] = []
        self._writing: asyncio.Task[None] | None = None

    @property
    def is_full(self) -> bool:
        return self.size >= self._limit

    async def append(self, delivery: Delivery) -> int:
        """Its position, once the delivery is on disk. Raises `SpoolFull` or `SpoolFault`: then it is not."""
        cost = _cost(delivery)
        if self.size + cost > self._limit:
            raise SpoolFull("the spool is full")
        self.count, self.size = self.count + 1, self.size + cost
        arrival = _Arrival(delivery, asyncio.get_running_loop().create_future())
        self._arrivals.append(arrival)
        self._write_soon()
        try:
            return await arrival.position
        except SpoolFault:
            self.count, self.size = self.count - 1, self.size - cost
            raise

    def remove(self, spooled: Spooled) -> None:
        """Forget a delivery that Kafka has. Lost in a crash, a removal makes a second copy of a record, not a gap."""
        self.count, self.size = self.count - 1, self.size - _cost(spooled.delivery)
        self._drained.append(spooled.position)
        self._write_soon()

    async def read(self, after: int) -> list[Spooled]:
        """The next deliveries behind a position, without those that were removed. Raises `SpoolFault`."""
        await self._write()
        try:
            return await self._on_thread(lambda: self._file.read(after))
        except sqlite3.Error as error:
            raise SpoolFault(str(error)) from error

    async def close(self) -> None:
        """Finish what was begun, and let other processes have the file."""
        if self._writing is not None:
            await self._writing
        await self._write()
        await self._on_thread(self._file.close)
        self._thread.shutdown()

    def _write_soon(self) -> None:
        if self._writing is None or self._writing.done():
            self._writing = asyncio.create_task(self._write_all())

    async def _write_all(self) -> None:
        written = True
        # What could not be removed waits for the next arrival, which the disk may take again.
        while self._arrivals or (self._drained and written):
            written = await self._write()
        if self.count == 0:
            await self._on_thread(self._wipe)

    async def _write(self) -> bool:
        """Commit all that waits at this moment; False if the disk does not take it."""
        arrivals, self._arrivals = self._arrivals, []
        drained, self._drained = self._drained, []
        try:
            positions = await self._on_thread(lambda: self._file.write([one.delivery for one in arrivals], drained))
        except sqlite3.Error as error:
            self._drained += drained
            for one in arrivals:
                one.position.set_exception(SpoolFault(str(error)))
            return False
        for one, position in zip(arrivals, positions, strict=True):
            one.position.set_result(position)
        return True

    def _wipe(self) -> None:
        with suppress(sqlite3.Error):
            if self._file.contents() == (0, 0):
                self._file.wipe()

    async def _on_thread(self, job: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, job)


def _cost(delivery: Delivery) -> int:
    return len(delivery.body) + ROW_OVERHEAD
