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
    """The content of one disk. Until `refuses_until` every write fails, and changes nothing.

    `safe` are the rows that a machine has when it comes back from a loss of power.
    """

    loop: SimulatedLoop
    rows: dict[int, Delivery] = field(default_factory=dict)
    safe: dict[int, Delivery] = field(default_factory=dict)
    last: int = 0
    refuses_until: float = 0.0

    def go_down(self) -> None:
        self.rows = dict(self.safe)


class SimulatedSpoolFile:
    """As `ingest.spool.file.SpoolFile`, on a simulated disk."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk

    def write(self, arrived: Sequence[Delivery], drained: Iterable[int]) -> list[int]:
        disk = self._disk
        if disk.refuses_until > disk.loop.moment:
            raise sqlite3.OperationalError("disk I/O error")
        for position in drained:
            disk.rows.pop(position, None)
        positions = list(range(disk.last + 1, disk.last + 1 + len(arrived)))
        disk.rows.update(zip(positions, arrived, strict=True))
        disk.last += len(arrived)
        if _FLUSHES:
            disk.safe = dict(disk.rows)
        return positions

    def read(self, after: int) -> list[Spooled]:
        return [Spooled(at, delivery) for at, delivery in self._disk.rows.items() if at > after][:_READ_ROWS]

    def contents(self) -> tuple[int, int]:
        rows = self._disk.rows
        return len(rows), sum(len(delivery.body) + ROW_OVERHEAD for delivery in rows.values())

    def wipe(self) -> None:
        """Drained rows are gone already; a checkpoint flushes."""
        self._disk.safe = dict(self._disk.rows)

    def close(self) -> None:
        """Another process may open it."""
