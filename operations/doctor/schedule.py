"""The doctor again and again: health on an admin port, a metric, and a log line for each change."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Sequence
from datetime import timedelta

from operations.doctor.verdicts import Verdict
from runtime.health import Health
from runtime.metrics import Metrics

logger = logging.getLogger(__name__)


async def examine_again_and_again(
    examine: Callable[[], Awaitable[Sequence[Verdict]]],
    every: timedelta,
    stop: asyncio.Event,
    metrics: Metrics,
    health: Health,
) -> None:
    """Examine at once and then at each interval, until `stop` is set. Ready means that nothing is broken."""
    broken: dict[str, Verdict] = {}
    while not stop.is_set():
        verdicts = await _unless_stopped(examine(), stop)
        if verdicts is None:
            return
        # A prerequisite that could not be checked this time must not be shown as it was the last time.
        health.parts.clear()
        for verdict in verdicts:
            health.report(_name(verdict), ready=verdict.standing != "broken", seen=verdict.seen)
        now_broken = {_name(verdict): verdict for verdict in verdicts if verdict.standing == "broken"}
        metrics.prerequisites_broken.set(len(now_broken))
        _log_changes(broken, now_broken, checked=health.parts.keys())
        broken = now_broken
        try:
            async with asyncio.timeout(every.total_seconds()):
                await stop.wait()
        except TimeoutError:
            continue


async def _unless_stopped(verdicts: Awaitable[Sequence[Verdict]], stop: asyncio.Event) -> Sequence[Verdict] | None:
    """The verdicts; None when `stop` was set first, because an examination may take as long as Meta does."""
    examining, stopping = asyncio.ensure_future(verdicts), asyncio.ensure_future(stop.wait())
    await asyncio.wait((examining, stopping), return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if examining.done():
        return examining.result()
    examining.cancel()
    await asyncio.wait((examining,))
    return None


def _log_changes(before: dict[str, Verdict], after: dict[str, Verdict], *, checked: Collection[str]) -> None:
    for name, verdict in after.items():
        if name not in before:
            fields = {"seen": verdict.seen, "breaks": verdict.breaks, "mend": verdict.mend}
            logger.warning("prerequisite.broken", extra={"prerequisite": name, **fields})
    for name in before:
        if name not in after and name in checked:
            logger.info("prerequisite.mended", extra={"prerequisite": name})


def _name(verdict: Verdict) -> str:
    return f"{verdict.check} ({verdict.place})"
