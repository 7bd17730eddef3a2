"""The clocks of the simulation: the true time, and that of each process, which may be wrong."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta, tzinfo
from types import SimpleNamespace
from typing import Any

import runtime.clock
import streams.engine.lease
from tests.simulation.loop import SimulatedLoop, current_process

BEGINNING = datetime(2026, 3, 2, 9, 0, 25, tzinfo=UTC)


class Timeline:
    """`at` is the true time of a moment of the loop."""

    def at(self, moment: float) -> datetime:
        return BEGINNING + timedelta(milliseconds=round(moment * 1000))


@contextmanager
def simulated_clock(loop: SimulatedLoop) -> Iterator[None]:
    """While this holds, the product reads the loop's time, by the clock of the process that asks."""

    class SimulatedDatetime(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override] # `runtime.clock` needs no more
            process = current_process()
            return BEGINNING + timedelta(seconds=loop.moment + (process.ahead if process is not None else 0.0))

    shown: list[tuple[dict[str, Any], dict[str, Any]]] = [
        (
            vars(runtime.clock),
            {"datetime": SimulatedDatetime, "time": SimpleNamespace(clock_gettime=lambda _: loop.moment)},
        ),
        (vars(streams.engine.lease), {"monotonic": loop.time}),
    ]
    real = [(module, {name: module[name] for name in names}) for module, names in shown]
    for module, names in shown:
        module.update(names)
    try:
        yield
    finally:
        for module, names in real:
            module.update(names)
