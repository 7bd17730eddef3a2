"""`leadstream leads …`: the leads as the topic has them."""

import asyncio
import sys
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

import click
from rich.console import Console
from rich.table import Table

from cli.lead_text import line
from cli.meta_id import META_ID
from cli.replay_options import TimeType
from cli.terminal import cell, say
from leads.records import Lead
from operations.broker import broker_of, kafka_answers
from operations.deployment import leads_now, schema_ids
from operations.environment import current_settings
from runtime import kafka
from runtime.cluster import Cluster
from runtime.settings import Settings
from schemas.codec import Ids, NotDecodable, lead_codec
from schemas.topics import LEADS

_Answer = TypeVar("_Answer")


@dataclass(frozen=True, slots=True)
class _Filter:
    page: str | None
    outcome: str | None
    since: datetime | None

    def passes(self, lead: Lead) -> bool:
        return (
            self.page in (None, lead.page_id)
            and self.outcome in (None, lead.outcome)
            and (self.since is None or lead.updated_at >= self.since)
        )


def _filters(command: Callable[..., None]) -> Callable[..., None]:
    for option in (
        click.option("--show-pii", is_flag=True, help="Show PSIDs and answers."),
        click.option("--since", type=TimeType(), help="Changed at or after this time, in UTC."),
        click.option("--outcome", type=click.Choice(["complete", "incomplete"])),
        click.option("--page", type=META_ID, help="Of this Page only."),
    ):
        command = option(command)
    return command


@click.group()
def command() -> None:
    """List the leads. What is personal is masked."""


@command.command("list")
@_filters
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True, help="The newest so many.")
def list_leads(*, page: str | None, outcome: str | None, since: datetime | None, show_pii: bool, limit: int) -> None:
    """List the newest revision of each lead, the last changed first.

    \b
    Example:
      leadstream leads list --outcome complete --since 2026-03-02
    """
    settings = current_settings()
    wanted = _Filter(page, outcome, since)
    newest = _ask(leads_now(settings, broker_of(settings), schema_ids(settings)))
    leads = sorted(filter(wanted.passes, newest.values()), key=lambda lead: lead.updated_at, reverse=True)
    _console().print(_table(leads[:limit], show_pii=show_pii))
    say(f"{len(leads)} leads" + (f", the last {limit} shown" if len(leads) > limit else ""))


@command.command("tail")
@_filters
def tail(*, page: str | None, outcome: str | None, since: datetime | None, show_pii: bool) -> None:
    """Print each revision as it comes, until Ctrl-C; with --since, those since then first.

    \b
    Example:
      leadstream leads tail --page 542998526103632
    """
    settings = current_settings()
    wanted = _Filter(page, outcome, since)

    def show(lead: Lead) -> None:
        if wanted.passes(lead):
            say("  ".join(line(lead, show_pii=show_pii).values()))

    _ask(_follow(settings, broker_of(settings), schema_ids(settings), show, from_the_start=since is not None))


async def _follow(
    settings: Settings, broker: Cluster, ids: Ids, show: Callable[[Lead], None], *, from_the_start: bool
) -> None:
    codec, topic = lead_codec(ids), settings.topic(LEADS.name)
    start = "earliest" if from_the_start else "latest"
    async with kafka.consumer(
        broker, topic, group=None, client_id="leadstream-leads", auto_offset_reset=start
    ) as consumer:
        async for record in consumer:
            if record.value is not None:
                show(codec.decode(record.value))


def _table(leads: list[Lead], *, show_pii: bool) -> Table:
    rows = [line(lead, show_pii=show_pii) for lead in leads]
    table = Table(*(rows[0] if rows else ()))
    for row in rows:
        table.add_row(*map(cell, row.values()))
    return table


def _console() -> Console:
    # Where there is no terminal, rich takes 80 columns, in which no lead can be read.
    return Console(width=None if sys.stdout.isatty() else 200)


def _ask(question: Coroutine[Any, Any, _Answer]) -> _Answer:
    try:
        with kafka_answers():
            return asyncio.run(question)
    except NotDecodable as fault:
        raise click.ClickException(f"the leads cannot be read: {fault}") from None
