"""Numbers that are read in the background, so that a page shows the newest at once and says how old they are."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Generic, Literal, TypeVar

from console.faults import FAULTS, sentence

_Value = TypeVar("_Value")
State = Literal["loading", "failed", "stale", "fresh"]
# Of the time, reading takes at most a fifth: a large warehouse is asked less often.
_PAUSE_PER_READING = 4

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Snapshot(Generic[_Value]):
    """The newest value. `fault` says why the reading after it failed."""

    value: _Value | None = None
    read_at: datetime | None = None
    fault: str | None = None

    @property
    def state(self) -> State:
        if self.value is None:
            return "loading" if self.fault is None else "failed"
        return "fresh" if self.fault is None else "stale"


@dataclass(slots=True)
class Changes:
    """Wakes those that wait for a change of a snapshot."""

    number: int = 0
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    def note(self) -> None:
        self.number += 1
        self._changed.set()
        self._changed = asyncio.Event()

    async def after(self, number: int) -> int:
        """The number of the newest change, once it is not this one."""
        while self.number == number:
            await self._changed.wait()
        return self.number


@dataclass(slots=True)
class Kept(Generic[_Value]):
    """A value that `keep` reads again and again; the last one stays when a reading fails."""

    name: str
    read: Callable[[], Awaitable[_Value]]
    every: timedelta
    now: Callable[[], datetime]
    changes: Changes
    snapshot: Snapshot[_Value] = field(default_factory=Snapshot)

    async def keep(self) -> None:
        """Read until cancelled."""
        clock = asyncio.get_running_loop().time
        while True:
            began = clock()
            await self.read_once()
            await asyncio.sleep(max(self.every.total_seconds(), _PAUSE_PER_READING * (clock() - began)))

    async def read_once(self) -> None:
        try:
            self.snapshot = Snapshot(await self.read(), self.now())
        except FAULTS as fault:
            if self.snapshot.fault is None:
                _log.warning("console.not_read", extra={"part": self.name, "fault": type(fault).__name__})
            self.snapshot = replace(self.snapshot, fault=sentence(fault))
        self.changes.note()
