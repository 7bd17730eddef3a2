"""A check made again and again, which shows its findings on an admin port."""

import asyncio
import signal
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import timedelta

from operations.reporting import OperationError
from runtime.admin import create_admin_app, serve
from runtime.health import Health
from runtime.metrics import Metrics
from runtime.settings import Settings


async def keep_looking(
    look: Callable[[Metrics, Health], Awaitable[None]], every: timedelta, settings: Settings, port: int
) -> None:
    """Look at once and then after each interval, and serve the health and the metrics, until SIGTERM or Ctrl-C.

    A look that is under way then is cancelled, because it may take as long as Meta does. Raises `OperationError` where
    the port cannot be had.
    """
    metrics, health = Metrics(), Health()

    async def look_again_and_again() -> None:
        while True:
            await look(metrics, health)
            await asyncio.sleep(every.total_seconds())

    try:
        async with serve(create_admin_app(metrics, health), settings.admin_host, port):
            looking = asyncio.create_task(look_again_and_again())
            for number in (signal.SIGTERM, signal.SIGINT):
                asyncio.get_running_loop().add_signal_handler(number, looking.cancel)
            with suppress(asyncio.CancelledError):
                await looking
    except OSError as fault:
        raise OperationError(f"cannot listen on port {port}: {fault.strerror}") from None
