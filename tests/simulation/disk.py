"""The disk of a machine: the spool's rows, written when the disk likes to, and lost where it lied about a flush."""

import re
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from ingest.publisher import Delivery
from ingest.spool.file import _SETUP, ROW_OVERHEAD, Spooled
from tests.simulation.loop import SimulatedLoop

_READ_ROWS = 500
# In the mode `wal` SQLite flushes each commit only so: https://www.sqlite.org/pragma.html#pragma_synchronous
_FLUSHES = re.search(r"pragma synchronous = (full|extra);", _SETUP) is not None


@dataclass
class Disk:
    """The content of one disk. Until `refuses_until` every write fails, and so do some reads.

    `safe` are the rows that a machine has when it comes back from a loss of power.
    """

    loop: SimulatedLoop
    rows: dict[int, Delivery] = field(default_factory=dict)
    safe: dict[int, Delivery] = field(default_factory=dict)
    last: int = 0
    refuses_until: float = 0.0

    @property
    def refuses(self) -> bool:
        return self.refuses_until > self.loop.moment

    def go_down(self) -> None:
        self.rows = dict(self.safe)
        self.last = max([self.last, *self.rows])


class SimulatedSpoolFile:
    """As `ingest.spool.file.SpoolFile`, on a simulated disk."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk

    def write(self, arrived: Sequence[Delivery], drained: Iterable[int]) -> list[int]:
        disk = self._disk
        positions = list(range(disk.last + 1, disk.last + 1 + len(arrived)))
        gone = set(drained)
        rows = {at: delivery for at, delivery in disk.rows.items() if at not in gone}
        rows.update(zip(positions, arrived, strict=True))
        if disk.refuses:
            # A commit that failed at its flush may be there after all once the machine comes back.
            if disk.loop.dice.draw("failed commit") < 0.5:
                disk.safe = rows
            raise sqlite3.OperationalError("disk I/O error")
        disk.rows, disk.last = rows, disk.last + len(arrived)
        if _FLUSHES:
            disk.safe = dict(rows)
        return positions

    def read(self, after: int) -> list[Spooled]:
        if self._disk.refuses and self._disk.loop.dice.draw("failed read") < 0.5:
            raise sqlite3.OperationalError("disk I/O error")
        return [Spooled(at, delivery) for at, delivery in self._disk.rows.items() if at > after][:_READ_ROWS]

    def contents(self) -> tuple[int, int]:
        rows = self._disk.rows
        return len(rows), sum(len(delivery.body) + ROW_OVERHEAD for delivery in rows.values())

    def wipe(self) -> None:
        """Drained rows are gone already; a checkpoint flushes."""
        self._disk.safe = dict(self._disk.rows)

    def close(self) -> None:
        """Another process may open it."""
