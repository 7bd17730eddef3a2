"""A check that is made again and again: its intervals, and its end."""

import asyncio
import signal
from datetime import timedelta

import pytest

from operations.lookout import keep_looking
from operations.reporting import OperationError
from runtime.admin import listen
from runtime.health import Health
from runtime.metrics import Metrics
from runtime.settings import Settings

pytestmark = pytest.mark.anyio


async def test_it_looks_again_after_each_interval_and_a_stop_does_not_wait_for_a_long_look() -> None:
    looks, third_look = list[Health](), asyncio.Event()

    async def look(_metrics: Metrics, health: Health) -> None:
        looks.append(health)
        if len(looks) == 3:
            third_look.set()
            await asyncio.Event().wait()

    looking = asyncio.create_task(keep_looking(look, timedelta(milliseconds=1), Settings(), 0))
    await third_look.wait()
    signal.raise_signal(signal.SIGTERM)
    await looking

    assert len(looks) == 3
    assert looks[0] is looks[2]


async def test_a_port_that_is_taken_is_named() -> None:
    async def look(_metrics: Metrics, _health: Health) -> None:
        raise AssertionError("nothing is checked without the port")

    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OperationError, match=f"cannot listen on port {port}"):
            await keep_looking(look, timedelta(hours=1), Settings(), port)
