"""A stop at SIGTERM or Ctrl-C that comes to its end, whatever a process waits for."""

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

    A process that is still there `within` seconds later ends with status 1, as if it was killed: aiokafka goes on
    asking a Kafka that is away. What it has not committed is read again.
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
