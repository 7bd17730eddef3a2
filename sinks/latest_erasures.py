"""The register of erasures, read to its end right before something of a person leaves."""

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar

from runtime.topic_reading import CatchUp

Moment = TypeVar("Moment")


class LatestErasures(Generic[Moment]):
    """Reads the register to its end, once for all who wait for it."""

    def __init__(self, catch_up: CatchUp, clock: Callable[[], Moment]) -> None:
        self._catch_up, self._clock = catch_up, clock
        self._reading = asyncio.Lock()
        self._readings, self._read_at = 0, clock()

    async def read(self) -> Moment:
        """Gives when the reading began: everything that was durable before is known."""
        readings = self._readings
        async with self._reading:
            if self._readings == readings:
                self._readings, began = readings + 1, self._clock()
                await self._catch_up(to_end=True)
                self._read_at = began
            return self._read_at
