"""`leadstream doctor`: every prerequisite, at Meta and here, with what it breaks and how to mend it."""

import asyncio
import json
import os
import signal
from collections.abc import Sequence
from dataclasses import asdict
from datetime import timedelta

import click
import httpx

from cli.configuration import load_pages
from cli.doctor_schedule import look_again_and_again
from cli.environment import current_settings
from cli.examine_here import mend_here, verdicts_here
from cli.examine_meta import MetaExamination
from leads.pages import Page
from messenger.errors import GraphError
from messenger.prerequisites import Verdict
from runtime.admin import create_admin_app, serve
from runtime.clock import now
from runtime.health import Health
from runtime.logs import configure_logging
from runtime.metrics import Metrics
from runtime.settings import Settings
from runtime.topic_admin import LayoutMismatchError, TopicRefusedError
from schemas.ids import NoSchemaId

ADMIN_PORT_OFFSET = 5


@click.command()
@click.option("--page", "page_id", metavar="ID", help="Only this Page of pages.yaml.  [default: all]")
@click.option("--fix", is_flag=True, help="Subscribe the app and its Pages anew, create topics, register schemas.")
@click.option("--callback-url", metavar="URL", help="With --fix: where Meta shall post.  [default: as it is]")
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for monitoring.")
@click.option("--every", type=click.IntRange(1), metavar="MINUTES", help="Go on looking, and serve what is seen.")
@click.option("--admin-port", type=click.IntRange(0, 65535), help="Port on loopback.  [default: ADMIN_PORT + 5]")
@click.pass_context
def command(
    context: click.Context,
    *,
    page_id: str | None,
    fix: bool,
    callback_url: str | None,
    as_json: bool,
    every: int | None,
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
    """
    settings = current_settings()
    settings.require("app_id", "app_secrets", "verify_token")
    pages = [page for page in load_pages(settings, os.environ) if page_id in (None, page.page_id)]
    if page_id is not None and not pages:
        raise click.ClickException(f"{settings.pages} has no Page {page_id}")
    if callback_url is not None and not fix:
        raise click.UsageError("--callback-url goes with --fix")
    if every is not None:
        if fix or as_json:
            raise click.UsageError("--every goes without --fix and --json")
        _go_on(settings, pages, timedelta(minutes=every), admin_port)
        return
    verdicts, mended = asyncio.run(_examine(settings, pages, fix=fix, callback_url=callback_url))
    if as_json:
        is_ok = all(verdict.standing != "broken" for verdict in verdicts)
        whole = {"ok": is_ok, "mended": mended, "checks": [asdict(verdict) for verdict in verdicts]}
        click.echo(json.dumps(whole, ensure_ascii=False, indent=2))
    else:
        _print(verdicts, mended)
    if any(verdict.standing == "broken" for verdict in verdicts):
        context.exit(1)


async def _examine(
    settings: Settings, pages: Sequence[Page], *, fix: bool, callback_url: str | None
) -> tuple[list[Verdict], list[str]]:
    async with httpx.AsyncClient() as http, httpx.AsyncClient() as other:
        meta = MetaExamination(settings, http, now)
        verdicts = [*await meta.verdicts(pages), *await verdicts_here(settings, other)]
        if not fix:
            return verdicts, []
        try:
            mended = await mend_here(settings, other, verdicts) + await meta.mend(verdicts, pages, callback_url)
        except (GraphError, NoSchemaId, LayoutMismatchError, TopicRefusedError) as fault:
            raise click.ClickException(f"cannot be mended from here: {fault}") from None
        return [*await meta.verdicts(pages), *await verdicts_here(settings, other)], mended


def _go_on(settings: Settings, pages: Sequence[Page], every: timedelta, admin_port: int | None) -> None:
    configure_logging("info", secrets=(*settings.app_secrets, *(page.access_token for page in pages)))
    port = settings.admin_port + ADMIN_PORT_OFFSET if admin_port is None else admin_port

    async def serve_on_and_on() -> None:
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        metrics, health = Metrics(), Health()
        async with serve(create_admin_app(metrics, health), "127.0.0.1", port):
            await look_again_and_again(lambda: _look(settings, pages), every, stop, metrics, health)

    try:
        asyncio.run(serve_on_and_on())
    except OSError as fault:
        raise click.ClickException(f"cannot listen on port {port}: {fault.strerror}") from None


async def _look(settings: Settings, pages: Sequence[Page]) -> list[Verdict]:
    return (await _examine(settings, pages, fix=False, callback_url=None))[0]


def _print(verdicts: Sequence[Verdict], mended: Sequence[str]) -> None:
    for line in mended:
        click.echo(f"mended   {line}")
    for verdict in verdicts:
        click.echo(f"{verdict.standing:8} {verdict.check} ({verdict.place}): {verdict.seen}")
        if verdict.breaks:
            click.echo(f"           breaks: {verdict.breaks}")
        if verdict.mend:
            click.echo(f"           mend:   {verdict.mend}")
    broken = sum(verdict.standing == "broken" for verdict in verdicts)
    click.echo(f"{len(verdicts)} looked at, {broken} broken")
