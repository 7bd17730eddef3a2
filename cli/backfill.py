"""`leadstream backfill`: the leads that Meta's conversations show and we lack, named and restored."""

import asyncio
import json
import os
from datetime import datetime, timedelta
from pathlib import Path

import click

from cli import options
from cli.backfill_report import BackfillReport
from cli.terminal import say
from leads.pages import Page
from messenger.lead_flow import LeadForm, lead_form
from operations.backfill.run import Question, run_backfill
from operations.backfill.schedule import serve_backfill
from operations.configuration import load_pages
from operations.deployment import Deployment, current_settings, start_log
from operations.local.stack import BACKFILL_PORT
from operations.reporting import OperationError
from runtime.clock import now
from runtime.metrics import Metrics
from runtime.settings import Settings


@click.command()
@click.option("--page", "page_id", metavar="ID", help="Only this Page of pages.yaml.  [default: all]")
@click.option(
    "--from", "since", type=options.TimeType(), help="Flows whose last answer came at or after this time, in UTC."
)
@click.option(
    "--to", "until", type=options.TimeType(), help="And before this time.  [default: a quarter of an hour ago]"
)
@click.option("--dry-run", is_flag=True, help="Name missing leads and write nothing; ends with 1 if any is missing.")
@click.option(
    "--template",
    "templates",
    metavar="FILE",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    multiple=True,
    help="Only flows of the ad with this message template.  [default: the questions of the Page's lead forms]",
)
@options.show_pii
@options.as_json("One JSON object a line: each finding, then each day.")
@click.option(
    "--every", type=click.IntRange(1), metavar="HOURS", help="Compare the last days again and again; writes nothing."
)
@options.admin_port("ADMIN_PORT + 6", label="With --every: port of health and metrics.")
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
    """Find leads in Meta's conversations that no webhook brought, and restore them.

    Each lead flow of the time is compared with `leads`: it is missing, without answers, or unknown because it is older
    than the 20 messages that Meta shows. The facts that are missing go to messenger-webhooks and become leads like any
    other; a follow-up is sent if its window is still open and no one has written since.

    Makes at most 1.5 calls a second for a Page. Stopped in the middle, the same command goes on where it was. With
    --every it compares again and again, and serves leadstream_lead_completeness on its admin port.

    \b
    Example:
      leadstream backfill --from 2026-03-01 --dry-run
      leadstream backfill --from 2026-03-01T08:00 --to 2026-03-01T18:00
      leadstream backfill --every 24
    """
    settings = current_settings()
    pages = _pages(settings, page_id)
    forms = tuple(_form(path) for path in templates)
    if every is not None:
        if since or until or dry_run or as_json:
            raise click.UsageError("--every goes without --from, --to, --dry-run and --json")
        port = settings.admin_port + BACKFILL_PORT if admin_port is None else admin_port
        asyncio.run(serve_backfill(Deployment.of(settings), pages, forms, timedelta(hours=every), port))
        return
    if since is None:
        raise click.UsageError("--from is missing: the time of the first flows to compare")
    if since >= (until or now()):
        raise click.UsageError("--from is not before --to")
    question = Question(since=since, until=until, dry_run=dry_run, forms=forms)
    report = BackfillReport(as_json, show_pii)
    asyncio.run(run_backfill(Deployment.of(settings), pages, question, report, Metrics()))
    missing, unanswered = report.count("missing"), report.count("unanswered")
    if not as_json:
        summary = f"{missing} missing, {unanswered} without answers, {report.count('cannot_tell')} unknown"
        is_written = missing + unanswered and not dry_run
        say(f"{summary}: everything that can be restored is written" if is_written else summary)
    if dry_run and missing + unanswered:
        context.exit(1)


def _pages(settings: Settings, page_id: str | None) -> list[Page]:
    pages = [page for page in load_pages(settings, os.environ) if page_id in (None, page.page_id)]
    if not pages:
        raise OperationError(f"{settings.pages} has no {'Pages' if page_id is None else f'Page {page_id}'}")
    for page in pages:
        if not page.access_token:
            raise OperationError(f"{settings.pages} has no access_token for Page {page.page_id}")
    start_log(settings, pages)
    return pages


def _form(path: Path) -> LeadForm:
    try:
        steps = json.loads(path.read_text(encoding="utf-8"))["step_list"]
        form = lead_form(steps) if isinstance(steps, list) else None
    except (ValueError, KeyError, TypeError):
        form = None
    if form is None:
        raise OperationError(f"{path} has no step_list that asks a question: see `leadstream template check`")
    return form
