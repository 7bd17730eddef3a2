"""The streams process: the application with health and metrics on a port of its own, until a signal or a failure."""

import asyncio
import logging
import traceback
from collections.abc import Callable

import faust
import uvloop

from runtime.access import NOT_ALLOWED, refused_use
from runtime.admin import create_admin_app, serve
from runtime.dead_letter import TooManyDeadLetters
from runtime.health import Health
from runtime.losses import OutOfReach
from runtime.metrics import Metrics
from runtime.stopping import stop_at_signals
from streams.engine.lease import MembershipLost
from streams.engine.producer import DeliveryFailed
from streams.engine.transport import StuckInRebalance
from streams.health import CLOCK
from streams.state import UnreadableState

_FAUST = ("faust", "mode")

# Their messages are ours, so they hold nothing that a person wrote.
_FIT_TO_PRINT = (TooManyDeadLetters, DeliveryFailed, MembershipLost, StuckInRebalance, OutOfReach, UnreadableState)

logger = logging.getLogger(__name__)


class WorkerCrashed(Exception):
    """The worker ended at a failure, with its offsets unmoved; the message is fit to print."""


def run_worker(build: Callable[[Metrics, Health], faust.App], admin_host: str, admin_port: int) -> None:
    """Run the application until SIGTERM or Ctrl-C. Raises `WorkerCrashed`, or `OSError` when the port is taken."""
    uvloop.run(_run(build, admin_host, admin_port))


async def _run(build: Callable[[Metrics, Health], faust.App], admin_host: str, admin_port: int) -> None:
    _quieten_faust()
    stop = stop_at_signals()
    # No worker is ready while a clock is wrong, and a new one would be no better.
    metrics, health = Metrics(), Health(spare=frozenset({CLOCK}))
    async with serve(create_admin_app(metrics, health), admin_host, admin_port):
        app = build(metrics, health)
        await _run_until(stop, app)
    failure = app.consumer.failure or app.crash_reason
    if failure is not None:
        raise WorkerCrashed(_description(failure)) from failure


async def _run_until(stop: asyncio.Event, app: faust.App) -> None:
    running = asyncio.create_task(_run_app(app))
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait((running, stopping), return_when=asyncio.FIRST_COMPLETED)
    await app.stop()
    for task in (running, stopping):
        task.cancel()
    await asyncio.wait((running, stopping))


async def _run_app(app: faust.App) -> None:
    await app.start()
    await app.wait_until_stopped()


def _description(failure: BaseException) -> str:
    """A description that is safe to print: messages quote records, so a bug is named by its class and place alone."""
    if isinstance(failure, NOT_ALLOWED):
        return (
            f"no ACL of Kafka allows it any more {refused_use(failure)}; see `leadstream topics acls --stage streams`"
        )
    if isinstance(failure, _FIT_TO_PRINT):
        return f"{type(failure).__name__}: {failure}"
    frames = "".join(traceback.format_tb(failure.__traceback__))
    logger.critical("streams.crashed", extra={"fault": type(failure).__name__, "frames": frames})
    return f"an unforeseen {type(failure).__name__}"


def _quieten_faust() -> None:
    """Only Faust's warnings: its INFO is noise, and its errors quote exceptions, which we tell of ourselves."""
    for handler in logging.getLogger().handlers:
        handler.addFilter(_is_fit_to_print)
    # It warns whenever a batch keeps the loop busy for longer than the interval of commits.
    logging.getLogger("mode.timers").setLevel(logging.ERROR)


def _is_fit_to_print(record: logging.LogRecord) -> bool:
    # Faust's services log under the names of our modules that subclass them, with their place in brackets.
    of_faust = record.name.split(".")[0] in _FAUST or record.getMessage().startswith("[^")
    return not of_faust or (record.levelno == logging.WARNING and not record.exc_info)
