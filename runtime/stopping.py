"""A stop at SIGTERM or Ctrl-C that ends in bounded time, even if the process waits for Kafka."""

import asyncio
import logging
import os
import signal
import threading

logger = logging.getLogger(__name__)

# Longer than a call to Meta may take, and sooner than `leadstream up` and Compose kill.
ENDS_WITHIN = 15.0


def stop_at_signals(within: float = ENDS_WITHIN) -> asyncio.Event:
    """Set by the first SIGTERM or Ctrl-C of the running loop's process.

    A process that still runs `within` seconds later ends with status 1, as if killed, because aiokafka keeps asking
    a Kafka that is away. Its uncommitted records are read again.
    """
    stop = asyncio.Event()
    last_resort = threading.Timer(within, _end, (within,))
    last_resort.daemon = True

    def begin() -> None:
        if not stop.is_set():
            stop.set()
            last_resort.start()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, begin)
    return stop


def _end(seconds: float) -> None:
    logger.error("stop.unfinished", extra={"after_seconds": seconds})
    os._exit(1)
