"""`leadstream leads …`: the leads as the topic has them."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import click
from rich.table import Table

from cli import options
from cli.terminal import cell, lead_columns, say, wide_console
from leads.records import Lead
from operations.deployment import Deployment, current_settings
from operations.reporting import OperationError
from runtime import kafka
from schemas.codec import NotDecodable, lead_codec
from schemas.topics import LEADS


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


_filters = options.options(
    options.page,
    click.option("--outcome", type=click.Choice(["complete", "incomplete"])),
    click.option("--since", type=options.TimeType(), help="Changed at or after this time, in UTC."),
    options.show_pii,
)


@click.group()
def command() -> None:
    """List the leads. Personal data is masked."""


@command.command("list")
@_filters
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True, help="How many at most.")
def list_leads(*, show_pii: bool, limit: int, **wanted: Any) -> None:
    """List the newest revision of each lead, the last changed first.

    \b
    Example:
      leadstream leads list --outcome complete --since 2026-03-02
    """
    newest = asyncio.run(Deployment.of(current_settings()).leads_now())
    passing = filter(_Filter(**wanted).passes, newest.values())
    leads = sorted(passing, key=lambda lead: lead.updated_at, reverse=True)
    rows = [lead_columns(lead, show_pii=show_pii) for lead in leads[:limit]]
    table = Table(*(rows[0] if rows else ()))
    for row in rows:
        table.add_row(*map(cell, row.values()))
    wide_console().print(table)
    say(f"{len(leads)} leads" + (f", the last {limit} shown" if len(leads) > limit else ""))


@command.command("tail")
@_filters
def tail(*, show_pii: bool, **given: Any) -> None:
    """Print each revision as it arrives, until Ctrl-C.

    With --since, the revisions since that time come first.

    \b
    Example:
      leadstream leads tail --page 542998526103632
    """
    wanted = _Filter(**given)

    def show(lead: Lead) -> None:
        if wanted.passes(lead):
            say("  ".join(lead_columns(lead, show_pii=show_pii).values()))

    start = "latest" if wanted.since is None else "earliest"
    asyncio.run(_follow(Deployment.of(current_settings()), show, start))


async def _follow(deployment: Deployment, show: Callable[[Lead], None], start: str) -> None:
    codec, topic = lead_codec(deployment.ids), deployment.topic(LEADS)
    consumer = kafka.consumer(
        deployment.broker, topic, group=None, client_id="leadstream-leads", auto_offset_reset=start
    )
    async with consumer:
        async for record in consumer:
            if record.value is not None:
                try:
                    show(codec.decode(record.value))
                except NotDecodable as fault:
                    raise OperationError(f"the leads cannot be read: {fault}") from None
