"""The doctor again and again: health on an admin port, a metric, and a log line for each prerequisite that changes."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Sequence
from datetime import timedelta

from operations.doctor.verdicts import Verdict
from runtime.health import Health
from runtime.metrics import Metrics

logger = logging.getLogger(__name__)


async def look_again_and_again(
    look: Callable[[], Awaitable[Sequence[Verdict]]],
    every: timedelta,
    stop: asyncio.Event,
    metrics: Metrics,
    health: Health,
) -> None:
    """Look at once and then `every` so often, until `stop` is set. Ready means that nothing is broken."""
    broken: dict[str, Verdict] = {}
    while not stop.is_set():
        verdicts = await _unless_stopped(look(), stop)
        if verdicts is None:
            return
        # What could not be looked at this time must not go on being shown as it was the last time.
        health.parts.clear()
        for verdict in verdicts:
            health.report(_name(verdict), ready=verdict.standing != "broken", seen=verdict.seen)
        now_broken = {_name(verdict): verdict for verdict in verdicts if verdict.standing == "broken"}
        metrics.prerequisites_broken.set(len(now_broken))
        _tell(broken, now_broken, looked_at=health.parts.keys())
        broken = now_broken
        try:
            async with asyncio.timeout(every.total_seconds()):
                await stop.wait()
        except TimeoutError:
            continue


async def _unless_stopped(looking: Awaitable[Sequence[Verdict]], stop: asyncio.Event) -> Sequence[Verdict] | None:
    """What a look gave; None when `stop` was set before, for one may take as long as Meta takes to answer."""
    look, stopping = asyncio.ensure_future(looking), asyncio.ensure_future(stop.wait())
    await asyncio.wait((look, stopping), return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if look.done():
        return look.result()
    look.cancel()
    await asyncio.wait((look,))
    return None


def _tell(before: dict[str, Verdict], after: dict[str, Verdict], *, looked_at: Collection[str]) -> None:
    for name, verdict in after.items():
        if name not in before:
            told = {"seen": verdict.seen, "breaks": verdict.breaks, "mend": verdict.mend}
            logger.warning("prerequisite.broken", extra={"prerequisite": name, **told})
    for name in before:
        if name not in after and name in looked_at:
            logger.info("prerequisite.mended", extra={"prerequisite": name})


def _name(verdict: Verdict) -> str:
    return f"{verdict.check} ({verdict.place})"
