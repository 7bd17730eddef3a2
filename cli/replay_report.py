"""What `leadstream replay` prints: the plan, the progress, the tally, the differences."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from cli.lead_text import shown
from cli.terminal import say
from leads.diff import Difference, fingerprint
from leads.facts import LeadPromoted
from streams.replay.plan import Plan
from streams.replay.promotion import Settled
from streams.replay.run import Tally
from streams.replay.shadow import Comparison, Reading

_HELD_BACK = """\
Held back: follow-ups and transcript requests go to topics that no sink reads, so that nobody is texted and the Graph
API is not called; transcripts that were fetched at the time are read from messenger-events."""


def show_plan(plan: Plan) -> None:
    """Everything that a replay would do."""
    table = Table("Topic", "Partition", "From offset", "Up to", "Records")
    for partition, span in sorted({**plan.webhooks, **plan.facts}.items()):
        table.add_row(partition.topic, str(partition.partition), str(span.start), str(span.stop), str(len(span)))
    _console().print(table)
    say(f"{plan.records} records")
    say(f"Read from   {_time(plan, 'read_from')}  (a warm-up, of which nothing is written)")
    say(f"Leads from  {_time(plan, 'since')}")
    say(f"up to       {_time(plan, 'until')}")
    for hole in plan.holes:
        before = f"before {shown('', hole.ends_at, show_pii=True)}" if hole.ends_at else "of that time"
        say(f"Missing: {hole.partition.topic}/{hole.partition.partition} has no record {before}: deleted")
    say("Nothing is missing." if not plan.holes else "A lead whose signals are among them will differ.")
    say(_HELD_BACK)


@contextmanager
def progress(total: int, of: str = "records read") -> Iterator[Callable[[int], None]]:
    """A bar of so many; what it gives takes counts."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=_console()) as bar:
        task = bar.add_task(of, total=total)
        yield lambda count: bar.advance(task, count)


def show_tally(plan: Plan, tally: Tally, took: timedelta) -> None:
    say(
        f"{tally.webhooks} webhooks, {tally.events} events, {tally.transcripts} transcripts"
        f" → {tally.revisions} lead revisions"
    )
    say(f"Not sent: {tally.commands} follow-ups. Not asked for: {tally.transcript_requests} transcripts.")
    if tally.unreadable:
        say(f"{tally.unreadable} webhooks have items that cannot be read")
    seconds = max(took.total_seconds(), 0.001)
    span = plan.until - max(plan.since, plan.read_from)
    say(
        f"{seconds:.1f} seconds: {tally.webhooks / seconds:.0f} webhooks a second,"
        f" {span.total_seconds() / seconds:.0f} times real time"
    )


def show_differences(comparison: Comparison, *, show_pii: bool) -> None:
    for one in comparison.found:
        for text in _lines(one, show_pii=show_pii):
            say(text)
    say(f"{len(comparison.found)} of {comparison.compared} leads differ")
    if comparison.gone_on:
        say(f"{comparison.gone_on} not compared: they have changed since, and compaction took what they were")
    if comparison.past_retention:
        say(f"{comparison.past_retention} not compared: their transcripts are older than messenger-events")


def show_promotion(comparison: Comparison, facts: Sequence[LeadPromoted]) -> None:
    left = len(comparison.found) - len(facts)
    say(f"{len(facts)} leads get a new revision" + (f"; {left} stay as they are" if left else ""))


def show_settled(settled: Settled) -> None:
    if settled.carried:
        say(f"{len(settled.carried)} leads carried over. The warehouse follows.")


def show_fingerprints(live: Reading, replayed: Reading) -> bool:
    """Whether the two streams of revisions are the same."""
    ours, theirs = fingerprint(live.revisions), fingerprint(replayed.revisions)
    say(f"SHA-256 of the revisions\n  live      {ours}\n  replayed  {theirs}")
    return ours == theirs


def _lines(one: Difference, *, show_pii: bool) -> Iterator[str]:
    lead = one.lead
    if one.live is None or one.replayed is None:
        yield f"{lead.lead_id}  {'only in the replay' if one.live is None else 'not in the replay'}"
        return
    for change in one.changes:
        before, after = (shown(change.field, value, show_pii=show_pii) for value in (change.live, change.replayed))
        yield f"{lead.lead_id}  {change.field}: {before} → {after}"


def _time(plan: Plan, name: str) -> str:
    return shown(name, getattr(plan, name), show_pii=True)


def _console() -> Console:
    # Where there is no terminal, rich takes 80 columns and breaks topic names.
    return Console(width=None if sys.stdout.isatty() else 140)
