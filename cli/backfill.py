"""`leadstream backfill`: the leads that Meta's conversations show and we lack, named and restored."""

import asyncio
import json
import os
import signal
from collections.abc import Awaitable, Sequence
from contextlib import AsyncExitStack, suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import click
import httpx

from cli.backfill_report import Report
from cli.replay_options import TimeType
from cli.terminal import say
from leads.pages import Page
from messenger.client import GraphClient
from messenger.lead_flow import LeadForm, lead_form
from operations.backfill.position import Position
from operations.backfill.run import Backfill, Here, Question
from operations.backfill.schedule import check_again_and_again, checked_since
from operations.broker import broker_of, kafka_answers
from operations.configuration import load_pages
from operations.deployment import erasures_now, leads_now, schema_ids
from operations.environment import current_settings, log_file
from runtime import kafka
from runtime.admin import create_admin_app, serve
from runtime.clock import now
from runtime.cluster import Cluster
from runtime.health import Health
from runtime.logs import configure_logging
from runtime.loopback import NO_PROXY
from runtime.metrics import Metrics
from runtime.settings import Settings
from runtime.topic_reading import TopicMissing
from schemas.codec import Ids, NotDecodable, event_codec
from schemas.topics import EVENTS

ADMIN_PORT_OFFSET = 6


@click.command()
@click.option("--page", "page_id", metavar="ID", help="Only this Page of pages.yaml.  [default: all]")
@click.option("--from", "since", type=TimeType(), help="Flows whose last answer was given at or after this, in UTC.")
@click.option("--to", "until", type=TimeType(), help="And before this.  [default: a quarter of an hour ago]")
@click.option("--dry-run", is_flag=True, help="Name what is missing and write nothing; ends with 1 if anything is.")
@click.option(
    "--template",
    "templates",
    metavar="FILE",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    multiple=True,
    help="Only flows of the ad with this message template.  [default: what the Page's lead forms ask]",
)
@click.option("--show-pii", is_flag=True, help="Show PSIDs and answers.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line: each finding, then each day.")
@click.option(
    "--every", type=click.IntRange(1), metavar="HOURS", help="Go on looking at the last days; writes nothing."
)
@click.option(
    "--admin-port",
    type=click.IntRange(0, 65535),
    help="With --every: port of health and metrics.  [default: ADMIN_PORT + 6]",
)
@click.pass_context
def command(
    context: click.Context,
    *,
    page_id: str | None,
    since: datetime | None,
    until: datetime | None,
    dry_run: bool,
    templates: tuple[Path, ...],
    show_pii: bool,
    as_json: bool,
    every: int | None,
    admin_port: int | None,
) -> None:
    """Find the leads that Meta's conversations show and no webhook brought, and restore them.

    Each lead flow of the time is held against `leads`: missing, without answers, or impossible to tell because it is
    older than the 20 messages that Meta shows. What is missing is written to messenger-events, from where it becomes a
    lead like any other; a follow-up goes out if its window is still open and nobody has spoken since.

    Makes at most 1.5 calls a second for a Page. Stopped in the middle, the same command goes on where it was. With
    --every it looks again and again, and serves leadstream_lead_completeness on its admin port.

    \b
    Example:
      leadstream backfill --from 2026-03-01 --dry-run
      leadstream backfill --page 542998526103632 --from 2026-03-01T08:00 --to 2026-03-01T18:00
      leadstream backfill --every 24
    """
    settings = current_settings()
    pages = _pages(settings, page_id)
    forms = tuple(_form(path) for path in templates)
    if every is not None:
        if since or until or dry_run or as_json:
            raise click.UsageError("--every goes without --from, --to, --dry-run and --json")
        _go_on(settings, pages, forms, timedelta(hours=every), admin_port)
        return
    if since is None:
        raise click.UsageError("--from is missing: the time from which on leads are looked for")
    if since >= (until or now()):
        raise click.UsageError("--from is not before --to")
    question = Question(since=since, until=until, dry_run=dry_run, forms=forms)
    report, broker, ids = Report(as_json, show_pii), broker_of(settings), schema_ids(settings)
    _ask(_look(settings, broker, ids, pages, question, report, Metrics()))
    _conclude(context, report, dry_run=dry_run)


def _go_on(
    settings: Settings, pages: Sequence[Page], forms: tuple[LeadForm, ...], every: timedelta, admin_port: int | None
) -> None:
    port = settings.admin_port + ADMIN_PORT_OFFSET if admin_port is None else admin_port
    broker, ids, metrics = broker_of(settings), schema_ids(settings), Metrics()

    async def check(page: Page) -> Position:
        question = Question(since=checked_since(now()), until=None, dry_run=True, forms=forms, afresh=True)
        report = Report(as_json=False, show_pii=False, quiet=True)
        return (await _look(settings, broker, ids, [page], question, report, metrics))[page.page_id]

    async def go_on() -> None:
        health = Health()
        async with serve(create_admin_app(metrics, health), settings.admin_host, port):
            checking = asyncio.create_task(check_again_and_again(check, pages, every, metrics, health))
            for number in (signal.SIGTERM, signal.SIGINT):
                asyncio.get_running_loop().add_signal_handler(number, checking.cancel)
            with suppress(asyncio.CancelledError):
                await checking

    _ask(go_on())


def _pages(settings: Settings, page_id: str | None) -> list[Page]:
    pages = [page for page in load_pages(settings, os.environ) if page_id in (None, page.page_id)]
    if not pages:
        raise click.ClickException(f"{settings.pages} has no {'Pages' if page_id is None else f'Page {page_id}'}")
    for page in pages:
        if not page.access_token:
            raise click.ClickException(f"{settings.pages} has no access_token for Page {page.page_id}")
    configure_logging(
        "info", secrets=(*settings.secrets, *(page.access_token for page in pages)), file=log_file(settings)
    )
    return pages


def _form(path: Path) -> LeadForm:
    try:
        steps = json.loads(path.read_text(encoding="utf-8"))["step_list"]
        form = lead_form(steps) if isinstance(steps, list) else None
    except (ValueError, KeyError, TypeError):
        form = None
    if form is None:
        raise click.ClickException(f"{path} has no step_list that asks a question: see `leadstream template check`")
    return form


async def _look(
    settings: Settings,
    broker: Cluster,
    ids: Ids,
    pages: Sequence[Page],
    question: Question,
    report: Report,
    metrics: Metrics,
) -> dict[str, Position]:
    async with AsyncExitStack() as stack:
        producer = None
        if not question.dry_run:
            producer = await stack.enter_async_context(kafka.producer(broker, client_id="leadstream-backfill"))
        here = Here(
            leads=await leads_now(settings, broker, ids),
            erasures=await erasures_now(settings, broker),
            producer=producer,
            topic=settings.topic(EVENTS.name),
            codec=event_codec(ids),
            state_dir=settings.state_dir,
        )
        http = await stack.enter_async_context(httpx.AsyncClient(mounts=NO_PROXY))
        secret = settings.app_secrets[0] if settings.app_secrets else None
        graph = GraphClient(settings.graph_url, settings.graph_version, http, secret)
        backfill = Backfill(graph, here, report, metrics)
        return {page.page_id: await backfill.run(page, question) for page in pages}


def _conclude(context: click.Context, report: Report, *, dry_run: bool) -> None:
    missing, unanswered = report.count("missing"), report.count("unanswered")
    if not report.as_json:
        found = f"{missing} missing, {unanswered} without answers, {report.count('cannot_tell')} impossible to tell"
        say(found if dry_run or not missing + unanswered else f"{found}: what can be restored is written")
    if dry_run and missing + unanswered:
        context.exit(1)


def _ask(question: Awaitable[Any]) -> Any:
    async def answer() -> Any:
        return await question

    try:
        with kafka_answers():
            return asyncio.run(answer())
    except (NotDecodable, TopicMissing) as fault:
        raise click.ClickException(f"the leads cannot be compared: {fault}") from None
    except OSError as fault:
        raise click.ClickException(f"cannot go on: {fault}") from None
