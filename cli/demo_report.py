"""The output of `leadstream demo`: live progress, a table of leads, a count of every ending, and two queries."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeElapsedColumn
from rich.table import Table

from cli.terminal import cell, label_column, say, wide_console
from leads.records import Lead
from operations.demo.observer import UNSETTLED, Observer
from operations.demo.run import Endings
from runtime.settings import Settings
from sinks.warehouse.query import ask

_SHOWN = 14
_FIRST_ROWS = (
    "The first three: Meta's two samples byte for byte, stamped 2022; the same pair with today's stamps; "
    "a flow that was dropped."
)
_QUERIES = (
    """\
select outcome, answers_source, count(*) as leads,
       round(avg(date_diff('millisecond', first_seen_at, updated_at)) / 1000, 1) as seconds_to_last_revision
from leads group by all order by leads desc""",
    """\
select page_id, sum(leads) as leads, sum(complete) as complete, sum(answered) as answered,
       sum(followed_up) as followed_up, sum(read) as read, sum(replied) as replied
from lead_funnel group by page_id order by leads desc""",
)


class DemoReport:
    """Prints to one console. The people whom it shows are invented."""

    def __init__(self) -> None:
        self._console = wide_console()

    @contextmanager
    def posting(self, total: int) -> Iterator[Callable[[], None]]:
        columns = (label_column(), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, console=self._console) as progress:
            task = progress.add_task("webhooks posted", total=total)
            yield lambda: progress.advance(task)

    @contextmanager
    def settling(self, observer: Observer) -> Iterator[Callable[[], None]]:
        with Live(console=self._console, refresh_per_second=8, transient=True) as live:
            yield lambda: live.update(cell(_so_far(observer)))
        self._console.print(_so_far(observer))

    def results(self, settings: Settings, observer: Observer, people: int, endings: Endings) -> None:
        """The first leads, which are the product page's, and a few of the campaign; every ending; two queries."""
        self._print_leads(observer, people)
        self._print_table("Every ending", ("What", "Ended as", "Count"), endings)
        for query in _QUERIES:
            say(*f'A query of the warehouse: leadstream warehouse sql "{query}"'.split("\n"))
            answer = ask(settings.warehouse, query)
            self._print_table(None, answer.columns, answer.rows)

    def _print_leads(self, observer: Observer, people: int) -> None:
        columns = ("Lead", "Outcome", "Answers", "Ad", "Closed by", "Rev.", "Follow-up")
        newest_last = sorted(observer.leads.values(), key=lambda lead: lead.first_seen_at)
        self._print_table("Leads", columns, [_cells(lead, observer) for lead in newest_last[:_SHOWN]])
        self._console.print(_FIRST_ROWS)
        left_out = len(newest_last) - _SHOWN
        if left_out > 0:
            self._console.print(f"and {left_out} more; {people} people met the ads")

    def _print_table(self, title: str | None, columns: Iterable[str], rows: Iterable[Iterable[object]]) -> None:
        table = Table(*columns, title=title, title_justify="left")
        for row in rows:
            table.add_row(*(cell(str(value)) for value in row))
        self._console.print(table)


def _so_far(observer: Observer) -> str:
    leads, records = observer.leads, observer.records
    closed = sum(lead.closed for lead in leads.values())
    ended = sum(outcome.status not in UNSETTLED for outcome in observer.outcomes.values())
    return (
        f"{len(leads)} leads, {closed} closed, {records['leads']} revisions; "
        f"{len(observer.commands)} follow-ups, {ended} ended"
    )


def _cells(lead: Lead, observer: Observer) -> tuple[str, ...]:
    outcome = observer.outcome_of(lead)
    reason = f" ({outcome.reason})" if outcome is not None and outcome.reason else ""
    return (
        lead.lead_id[:8],
        lead.outcome,
        " · ".join(answer.answer.replace("\n", " ") for answer in lead.answers) or "(none)",
        (lead.ad.ad_title if lead.ad else None) or "(unknown)",
        lead.close_reason or "(open)",
        str(lead.revision),
        "(no rule)" if outcome is None else f"{outcome.rule}: {outcome.status}{reason}",
    )
