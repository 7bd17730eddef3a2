"""`leadstream doctor`: every prerequisite, at Meta and here, with what it breaks and how to mend it."""

import asyncio
import json
import os
import signal
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import timedelta

import click
import httpx
from rich.console import Console

from cli.terminal import one_line, say
from leads.pages import Page
from operations.configuration import load_pages
from operations.doctor.here import mend_here, verdicts_here
from operations.doctor.mending import Mending
from operations.doctor.meta import MetaExamination
from operations.doctor.schedule import look_again_and_again
from operations.doctor.verdicts import Verdict
from operations.environment import current_settings, log_file
from runtime.admin import create_admin_app, serve
from runtime.clock import now
from runtime.health import Health
from runtime.logs import configure_logging
from runtime.loopback import NO_PROXY
from runtime.metrics import Metrics
from runtime.settings import Settings

ADMIN_PORT_OFFSET = 5


def _stages(_context: click.Context, _option: click.Parameter, given: Sequence[str]) -> dict[str, str]:
    stages = {}
    for text in given:
        name, _, url = text.partition("=")
        if not name or not url.startswith(("http://", "https://")):
            raise click.BadParameter(f"expected NAME=URL such as ingest=http://ingest:8001, not {text!r}")
        stages[name] = url.rstrip("/")
    return stages


@click.command()
@click.option("--page", "page_id", metavar="ID", help="Only this Page of pages.yaml.  [default: all]")
@click.option("--fix", is_flag=True, help="Subscribe the app and its Pages anew, create topics, register schemas.")
@click.option("--callback-url", metavar="URL", help="With --fix: where Meta shall post.  [default: as it is]")
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for monitoring.")
@click.option("--every", type=click.IntRange(1), metavar="MINUTES", help="Go on looking, and serve what is seen.")
@click.option(
    "--stage",
    "stages",
    multiple=True,
    callback=_stages,
    metavar="NAME=URL",
    help="A stage's admin port, which must say ready; may be repeated.  [default: those of `up` here, or ingest]",
)
@click.option(
    "--admin-port",
    type=click.IntRange(0, 65535),
    help="With --every: port of health and metrics.  [default: ADMIN_PORT + 5]",
)
@click.pass_context
def command(
    context: click.Context,
    *,
    page_id: str | None,
    fix: bool,
    callback_url: str | None,
    as_json: bool,
    every: int | None,
    stages: dict[str, str],
    admin_port: int | None,
) -> None:
    """Look at everything that a lead needs to reach us: at Meta, in Kafka, in the registry, in the warehouse.

    Needs LEADSTREAM_APP_ID, LEADSTREAM_APP_SECRET and LEADSTREAM_VERIFY_TOKEN. Ends with 0 when nothing is broken, and
    with 1 otherwise; a warning is not broken. What rests on something broken is left out, so that the cause is named.

    With --every it goes on until SIGTERM or Ctrl-C: /readyz on its admin port shows every prerequisite and is 503 while
    one is broken, /metrics counts them, and the log has each change.

    \b
    Example:
      leadstream doctor
      leadstream doctor --page 542998526103632 --json
      leadstream doctor --fix --callback-url https://leads.example.com/webhooks/messenger
      leadstream doctor --every 15
      leadstream doctor --stage ingest=http://ingest:8001 --stage streams=http://streams:8002
    """
    settings = current_settings()
    settings.require("app_id", "app_secrets", "verify_token")
    pages = [page for page in load_pages(settings, os.environ) if page_id in (None, page.page_id)]
    if page_id is not None and not pages:
        raise click.ClickException(f"{settings.pages} has no Page {page_id}")
    if callback_url is not None and not fix:
        raise click.UsageError("--callback-url goes with --fix")
    if callback_url is not None and not callback_url.startswith(("https://", "http://")):
        raise click.BadParameter("https://… is wanted", param_hint="--callback-url")
    if every is not None:
        if fix or as_json:
            raise click.UsageError("--every goes without --fix and --json")
        _go_on(settings, pages, stages, timedelta(minutes=every), admin_port)
        return
    with Console(stderr=True).status("Looking at Meta, Kafka, the schema registry and the warehouse"):
        verdicts, mending = asyncio.run(_examine(settings, pages, stages, fix=fix, callback_url=callback_url))
    is_ok = not mending.failed and all(verdict.standing != "broken" for verdict in verdicts)
    if as_json:
        told = {"ok": is_ok, "mended": mending.done, "not_mended": mending.failed}
        say(json.dumps({**told, "checks": [asdict(one) for one in verdicts]}, ensure_ascii=False, indent=2))
    else:
        _print(verdicts, mending)
    if not is_ok:
        context.exit(1)


async def _examine(
    settings: Settings, pages: Sequence[Page], stages: Mapping[str, str], *, fix: bool, callback_url: str | None
) -> tuple[list[Verdict], Mending]:
    async with httpx.AsyncClient(mounts=NO_PROXY) as http, httpx.AsyncClient(mounts=NO_PROXY) as other:
        meta = MetaExamination(settings, http, now)

        async def look() -> list[Verdict]:
            here = await verdicts_here(settings, stages, other)
            return [*_of_the_file(settings, pages), *await meta.verdicts(pages), *here]

        verdicts = await look()
        if not fix:
            return verdicts, Mending()
        mended, there = await mend_here(settings, verdicts), await meta.mend(verdicts, pages, callback_url)
        return await look(), Mending([*mended.done, *there.done], [*mended.failed, *there.failed])


def _of_the_file(settings: Settings, pages: Sequence[Page]) -> list[Verdict]:
    """Without a Page there is no token to look at, and all that is left to see may well be as it should be."""
    if pages:
        return [Verdict("pages", "pages", "ok", f"{len(pages)} in {settings.pages}")]
    seen = f"{settings.pages} names none" if settings.pages.exists() else f"there is no {settings.pages}"
    breaks = "nothing is sent, no transcript is asked for, and no Page can be looked at"
    return [Verdict("pages", "pages", "broken", seen, breaks, "write it like examples/pages.yaml")]


def _go_on(
    settings: Settings, pages: Sequence[Page], stages: Mapping[str, str], every: timedelta, admin_port: int | None
) -> None:
    configure_logging(
        "info", secrets=(*settings.secrets, *(page.access_token for page in pages)), file=log_file(settings)
    )
    port = settings.admin_port + ADMIN_PORT_OFFSET if admin_port is None else admin_port

    async def serve_on_and_on() -> None:
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        metrics, health = Metrics(), Health()
        async with serve(create_admin_app(metrics, health), settings.admin_host, port):
            await look_again_and_again(lambda: _look(settings, pages, stages), every, stop, metrics, health)

    try:
        asyncio.run(serve_on_and_on())
    except OSError as fault:
        raise click.ClickException(f"cannot listen on port {port}: {fault.strerror}") from None


async def _look(settings: Settings, pages: Sequence[Page], stages: Mapping[str, str]) -> list[Verdict]:
    return (await _examine(settings, pages, stages, fix=False, callback_url=None))[0]


def _print(verdicts: Sequence[Verdict], mending: Mending) -> None:
    for line in mending.done:
        say(f"mended   {one_line(line)}")
    for line in mending.failed:
        say(f"not mended {one_line(line)}")
    for verdict in verdicts:
        say(one_line(f"{verdict.standing:8} {verdict.check} ({verdict.place}): {verdict.seen}"))
        if verdict.breaks:
            say(f"           breaks: {verdict.breaks}")
        if verdict.mend:
            say(f"           mend:   {one_line(verdict.mend)}")
    broken = sum(verdict.standing == "broken" for verdict in verdicts)
    say(f"{len(verdicts)} looked at, {broken} broken")
