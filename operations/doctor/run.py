"""Every prerequisite of a deployment, at Meta and here: examined once, mended, or examined again and again."""

import asyncio
import signal
from collections.abc import Mapping, Sequence
from datetime import timedelta

import httpx

from leads.pages import Page
from operations.doctor.here import mend_here, verdicts_here
from operations.doctor.mending import Mending
from operations.doctor.meta import MetaExamination
from operations.doctor.schedule import examine_again_and_again
from operations.doctor.verdicts import Verdict
from operations.reporting import OperationError
from runtime.admin import create_admin_app, serve
from runtime.clock import now
from runtime.health import Health
from runtime.loopback import NO_PROXY
from runtime.metrics import Metrics
from runtime.settings import Settings


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
        here, there = await mend_here(settings, verdicts), await meta.mend(verdicts, pages, callback_url)
        return await verdicts_now(), Mending([*here.done, *there.done], [*here.failed, *there.failed])


def _pages_verdict(settings: Settings, pages: Sequence[Page]) -> Verdict:
    """Without a Page there is no token to check, and everything else may well be in order."""
    if pages:
        return Verdict("pages", "pages", "ok", f"{len(pages)} in {settings.pages}")
    seen = f"{settings.pages} names none" if settings.pages.exists() else f"there is no {settings.pages}"
    breaks = "nothing is sent, no transcript is fetched, and no Page can be checked"
    return Verdict("pages", "pages", "broken", seen, breaks, "write it like examples/pages.yaml")


async def serve_doctor(
    settings: Settings, pages: Sequence[Page], stages: Mapping[str, str], every: timedelta, port: int
) -> None:
    """Examine again and again, and serve the verdicts on an admin port, until SIGTERM or Ctrl-C.

    Raises `OperationError` where the port cannot be had.
    """
    stop, metrics, health = asyncio.Event(), Metrics(), Health()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)

    async def verdicts() -> list[Verdict]:
        return (await examine(settings, pages, stages))[0]

    try:
        async with serve(create_admin_app(metrics, health), settings.admin_host, port):
            await examine_again_and_again(verdicts, every, stop, metrics, health)
    except OSError as fault:
        raise OperationError(f"cannot listen on port {port}: {fault.strerror}") from None
