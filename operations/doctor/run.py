"""Every prerequisite of a deployment, at Meta and here: examined once, mended, or examined again and again."""

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import chain

import httpx
from aiokafka.errors import KafkaError

from leads.pages import Page
from messenger.errors import GraphError
from operations.doctor.here import repairs_here, verdicts_here
from operations.doctor.meta import MetaExamination, Repairs
from operations.doctor.verdicts import Verdict, broken, ok
from operations.lookout import keep_looking
from runtime.clock import now
from runtime.health import Health
from runtime.loopback import NO_PROXY
from runtime.mendable import Mendable
from runtime.metrics import Metrics
from runtime.settings import Settings

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Mending:
    """The repairs of `leadstream doctor --fix`. `done` and `failed` are lines for people; neither holds a secret."""

    done: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)


async def examine(
    settings: Settings,
    pages: Sequence[Page],
    stages: Mapping[str, str],
    *,
    fix: bool = False,
    callback_url: str | None = None,
) -> tuple[list[Verdict], Mending]:
    """Every verdict; with `fix` those after everything was mended that can be. `stages` are URLs of admin ports."""
    async with httpx.AsyncClient(mounts=NO_PROXY) as http, httpx.AsyncClient(mounts=NO_PROXY) as other:
        meta = MetaExamination(settings, http, now)

        async def verdicts_now() -> list[Verdict]:
            here = await verdicts_here(settings, stages, other)
            return [_pages_verdict(settings, pages), *await meta.verdicts(pages), *here]

        verdicts = await verdicts_now()
        if not fix:
            return verdicts, Mending()
        mending = await mend(chain(repairs_here(settings, verdicts), meta.repairs(verdicts, pages, callback_url)))
        return await verdicts_now(), mending


async def mend(repairs: Repairs) -> Mending:
    """Make the repairs; after one fails, the others are still tried."""
    mending = Mending()
    for label, repair in repairs:
        try:
            mending.done += await repair
        except (GraphError, Mendable) as fault:
            mending.failed.append(f"{label}: {fault}")
        except (KafkaError, TimeoutError) as fault:
            mending.failed.append(f"{label}: Kafka did not do it ({type(fault).__name__})")
    return mending


def _pages_verdict(settings: Settings, pages: Sequence[Page]) -> Verdict:
    """Without a Page there is no token to check, and everything else may well be in order."""
    if pages:
        return ok("pages", "pages", f"{len(pages)} in {settings.pages}")
    seen = f"{settings.pages} names none" if settings.pages.exists() else f"there is no {settings.pages}"
    return broken("pages", "pages", seen)


async def serve_doctor(
    settings: Settings, pages: Sequence[Page], stages: Mapping[str, str], every: timedelta, port: int
) -> None:
    """Examine again and again, and serve the verdicts on an admin port, until SIGTERM or Ctrl-C.

    Raises `OperationError` where the port cannot be had.
    """
    changes = Changes()

    async def look(metrics: Metrics, health: Health) -> None:
        changes.report((await examine(settings, pages, stages))[0], metrics, health)

    await keep_looking(look, every, settings, port)


class Changes:
    """Shows verdicts: health, where ready means that nothing is broken, a metric, and a log line for each change."""

    def __init__(self) -> None:
        self._broken: Collection[str] = ()

    def report(self, verdicts: Sequence[Verdict], metrics: Metrics, health: Health) -> None:
        # A prerequisite that could not be checked this time must not be shown as it was the last time.
        health.parts.clear()
        for verdict in verdicts:
            health.report(_name(verdict), ready=verdict.standing != "broken", seen=verdict.seen)
        before, now_broken = (
            self._broken,
            {_name(verdict): verdict for verdict in verdicts if verdict.standing == "broken"},
        )
        self._broken = now_broken.keys()
        metrics.prerequisites_broken.set(len(now_broken))
        metrics.token_ends_at_seconds.clear()
        for verdict in verdicts:
            if verdict.ends_at is not None:
                ends = metrics.token_ends_at_seconds.labels(verdict.place, verdict.check)
                ends.set(verdict.ends_at.timestamp())
        for name, verdict in now_broken.items():
            if name not in before:
                fields = {"seen": verdict.seen, "breaks": verdict.breaks, "mend": verdict.mend}
                logger.warning("prerequisite.broken", extra={"prerequisite": name, **fields})
        for name in before:
            if name in health.parts and name not in now_broken:
                logger.info("prerequisite.mended", extra={"prerequisite": name})


def _name(verdict: Verdict) -> str:
    return f"{verdict.check} ({verdict.place})"
