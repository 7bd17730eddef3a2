"""The spool for the event loop: one writer thread, one fsync for all that waits, a bounded size."""

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

from ingest.publisher import Delivery, NotDurable
from ingest.spool.file import ROW_OVERHEAD, Spooled, SpoolFile

T = TypeVar("T")

_TRY_AGAIN_AFTER = timedelta(seconds=1)


class SpoolFull(NotDurable):
    """The spool has no room for this delivery."""


class SpoolFault(NotDurable):
    """The disk refuses the delivery; the message is SQLite's."""


class Spool:
    """Deliveries that wait for Kafka, in the order of their positions.

    All methods are for one event loop, and may be called at any time between the constructor, which raises
    `SpoolUnusable`, and `close`. `count` and `size` include deliveries that are on their way to the disk.
    """

    def __init__(
        self,
        path: Path,
        limit: int,
        *,
        open_file: Callable[[Path], SpoolFile] = SpoolFile,
        try_again_after: timedelta = _TRY_AGAIN_AFTER,
    ) -> None:
        self.name = path.stem
        self._file = open_file(path)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="spool")
        self._limit, self._try_again_after = limit, try_again_after.total_seconds()
        self.count, self.size = self._file.contents()
        self._arrivals: list[tuple[Delivery, asyncio.Future[int]]] = []
        self._drained: list[int] = []
        self._writing: asyncio.Task[None] | None = None
        self._again: asyncio.TimerHandle | None = None

    @property
    def is_full(self) -> bool:
        return self.size >= self._limit

    async def append(self, delivery: Delivery) -> int:
        """Write the delivery to disk and return its position, which is beyond all positions before.

        Waits for the disk; several appends share one fsync. Raises `SpoolFull` or `SpoolFault`: then it is not on disk.
        It must not be cancelled meanwhile.
        """
        cost = _cost(delivery)
        if self.size + cost > self._limit:
            raise SpoolFull("the spool is full")
        self.count, self.size = self.count + 1, self.size + cost
        position: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._arrivals.append((delivery, position))
        self._write_soon()
        try:
            return await position
        except SpoolFault:
            self.count, self.size = self.count - 1, self.size - cost
            raise

    def remove(self, spooled: Spooled) -> None:
        """Remove a delivery that Kafka has, on disk a little later, and again as long as the disk refuses.

        A crash before that makes a second copy of a record, never a gap.
        """
        self.count, self.size = self.count - 1, self.size - _cost(spooled.delivery)
        self._drained.append(spooled.position)
        self._write_soon()

    async def read(self, after: int) -> list[Spooled]:
        """The next deliveries behind a position, a few hundred at most; none if there are none.

        Waits for the disk, which first takes all that was appended or removed before the call. Raises `SpoolFault`.
        """
        await self._write()
        try:
            return await self._on_thread(lambda: self._file.read(after))
        except sqlite3.Error as error:
            raise SpoolFault(str(error)) from error

    async def close(self) -> None:
        """Write what waits, and release the file to other processes. No other method may be called after it."""
        if self._writing is not None:
            await self._writing
        if self._again is not None:
            self._again.cancel()
        await self._write()
        await self._on_thread(self._file.close)
        self._thread.shutdown()

    def _write_soon(self) -> None:
        if self._writing is None or self._writing.done():
            self._writing = asyncio.create_task(self._write_all())

    async def _write_all(self) -> None:
        written = True
        while self._arrivals or (self._drained and written):
            written = await self._write()
        if self.count == 0:
            await self._on_thread(self._wipe)
        if self._again is not None:
            self._again.cancel()
        if self._arrivals or self._drained:
            # An arrival came while the file was wiped, or the disk has refused a removal.
            pause = 0 if self._arrivals else self._try_again_after
            self._again = asyncio.get_running_loop().call_later(pause, self._write_soon)

    async def _write(self) -> bool:
        """Commit all that waits at this moment; False if the disk refuses it."""
        arrivals, self._arrivals = self._arrivals, []
        drained, self._drained = self._drained, []
        try:
            deliveries = [delivery for delivery, _ in arrivals]
            positions = await self._on_thread(lambda: self._file.write(deliveries, drained))
        except sqlite3.Error as error:
            self._drained += drained
            for _, position in arrivals:
                position.set_exception(SpoolFault(str(error)))
            return False
        for (_, position), written in zip(arrivals, positions, strict=True):
            position.set_result(written)
        return True

    def _wipe(self) -> None:
        with suppress(sqlite3.Error):
            if self._file.contents() == (0, 0):
                self._file.wipe()

    async def _on_thread(self, job: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, job)


def _cost(delivery: Delivery) -> int:
    return len(delivery.body) + ROW_OVERHEAD
