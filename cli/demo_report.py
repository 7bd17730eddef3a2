"""What the demo shows: live progress, a table of leads, a count of every ending, a question to the warehouse."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import httpx
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from cli.demo_observer import Observer
from cli.terminal import cell
from leads.records import Lead
from operations.local.stack import admin_url
from runtime.settings import Settings
from simulator.campaign import Campaign
from sinks.warehouse.query import ask

_SHOWN = 14
_FIRST_ROWS = (
    "The first three: Meta's two samples byte for byte, stamped 2022; the same pair with today's stamps; "
    "a flow that was dropped."
)
_QUESTION = """\
select outcome, answers_source, count(*) as leads,
       round(avg(date_diff('millisecond', first_seen_at, updated_at)) / 1000, 1) as seconds_to_last_revision
from leads group by all order by leads desc"""
_COUNTERS = {
    "leadstream_webhooks_received": ("webhook", "result"),
    "leadstream_events_parsed": ("event", "kind"),
    "leadstream_items_ignored": ("ignored", "reason"),
    "leadstream_records_dead_lettered": ("dead letter", "reason"),
}

Endings = list[tuple[str, str, int]]


class Report:
    """Prints to one console. What it prints of people is invented."""

    def __init__(self, console: Console, settings: Settings) -> None:
        self._console, self._settings = console, settings

    @contextmanager
    def posting(self, total: int) -> Iterator[Callable[[], None]]:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, console=self._console) as progress:
            task = progress.add_task("webhooks posted", total=total)
            yield lambda: progress.advance(task)

    @contextmanager
    def settling(self, observer: Observer) -> Iterator[Callable[[], None]]:
        with Live(console=self._console, refresh_per_second=8, transient=True) as live:
            yield lambda: live.update(cell(_so_far(observer)))
        self._console.print(_so_far(observer))

    def leads(self, observer: Observer, campaign: Campaign) -> None:
        """The first leads, which are the product page's, and a few of the campaign."""
        columns = ("Lead", "Outcome", "Answers", "Ad", "Closed by", "Rev.", "Follow-up")
        table = Table(*columns, title="Leads", title_justify="left")
        newest_last = sorted(observer.leads.values(), key=lambda lead: lead.first_seen_at)
        for lead in newest_last[:_SHOWN]:
            table.add_row(*map(cell, _cells(lead, observer)))
        self._console.print(table)
        self._console.print(_FIRST_ROWS)
        left_out = len(newest_last) - _SHOWN
        if left_out > 0:
            self._console.print(f"and {left_out} more; {len(campaign.expected)} people met the ads")

    def endings(self, endings: Endings) -> None:
        table = Table("What", "Ended as", "Count", title="Every ending", title_justify="left")
        for what, ended_as, count in endings:
            table.add_row(what, cell(ended_as), str(count))
        self._console.print(table)

    def warehouse(self) -> None:
        """One question over the warehouse, as `leadstream warehouse sql` answers it."""
        self._console.print("A question to the warehouse:", cell(f'leadstream warehouse sql "{_QUESTION}"'))
        answer = ask(self._settings.warehouse, _QUESTION)
        table = Table(*answer.columns)
        for row in answer.rows:
            table.add_row(*(cell(str(value)) for value in row))
        self._console.print(table)


def _so_far(observer: Observer) -> str:
    leads, records = observer.leads, observer.records
    closed = sum(lead.closed for lead in leads.values())
    ended = sum(one.status not in ("attempting", "in_doubt") for one in observer.outcomes.values())
    return (
        f"{len(leads)} leads, {closed} closed, {records['leads']} revisions; "
        f"{len(observer.commands)} follow-ups, {ended} ended"
    )


def _cells(lead: Lead, observer: Observer) -> tuple[str, ...]:
    outcome = observer.outcome_of(lead)
    return (
        lead.lead_id[:8],
        lead.outcome,
        " · ".join(one.answer.replace("\n", " ") for one in lead.answers) or "(none)",
        (lead.ad.ad_title if lead.ad else None) or "(unknown)",
        lead.close_reason or "(open)",
        str(lead.revision),
        "(no rule)" if outcome is None else f"{outcome.rule}: {outcome.status}{_because(outcome.reason)}",
    )


def _because(reason: str | None) -> str:
    return f" ({reason})" if reason else ""


async def count_endings(http: httpx.AsyncClient, settings: Settings, observer: Observer) -> Endings:
    """How everything that came in ended, from the processes' own metrics and from the topics."""
    endings: Endings = []
    for stage in ("ingest", "streams"):
        response = await http.get(admin_url(settings, stage, "/metrics"))
        endings += _counted(response.text)
    leads = Counter(f"{lead.outcome}, closed by {lead.close_reason}" for lead in observer.leads.values())
    follow_ups = Counter(f"{one.status}{_because(one.reason)}" for one in observer.outcomes.values())
    return endings + _rows("lead", leads) + _rows("follow-up", follow_ups)


def _counted(exposition: str) -> Endings:
    found: Endings = []
    for family in text_string_to_metric_families(exposition):
        if family.name in _COUNTERS:
            what, label = _COUNTERS[family.name]
            totals = (one for one in family.samples if one.name.endswith("_total") and one.value)
            found += [(what, one.labels[label], int(one.value)) for one in totals]
    return found


def _rows(what: str, counts: Mapping[str, int]) -> Endings:
    return [(what, ended_as, count) for ended_as, count in sorted(counts.items())]
