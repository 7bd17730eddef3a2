"""The output of `leadstream replay`: the plan, the tally, the differences."""

from collections.abc import Iterator, Sequence
from datetime import timedelta

from rich.table import Table

from cli.terminal import say, wide_console
from leads.diff import Difference, fingerprint
from leads.facts import LeadPromoted
from operations.masking import masked
from streams.replay.plan import Plan
from streams.replay.promotion import Settled
from streams.replay.run import Tally
from streams.replay.shadow import Comparison, Reading

_HELD_BACK = """\
Held back: follow-ups and transcript requests go to topics that no sink reads. No one is texted and the Graph API is
not called; transcripts that were fetched at the time lie among the webhooks."""


def show_plan(plan: Plan) -> None:
    """Everything that a replay would do."""
    table = Table("Topic", "Partition", "From offset", "Up to", "Records")
    for partition, span in sorted(plan.spans.items()):
        table.add_row(partition.topic, str(partition.partition), str(span.start), str(span.stop), str(len(span)))
    wide_console().print(table)
    say(f"{plan.records} records")
    say(f"Read from   {_time(plan, 'read_from')}  (a warm-up, which writes nothing)")
    say(f"Leads from  {_time(plan, 'since')}")
    say(f"up to       {_time(plan, 'until')}")
    for hole in plan.holes:
        before = f"before {masked('', hole.ends_at, show_pii=True)}" if hole.ends_at else "of that time"
        say(f"Missing: {hole.partition.topic}/{hole.partition.partition} has no record {before}: deleted")
    say("Nothing is missing." if not plan.holes else "A lead whose signals are among them will differ.")
    say(*_HELD_BACK.split("\n"))


def show_tally(plan: Plan, tally: Tally, took: timedelta) -> None:
    say(
        f"{tally.webhooks} webhooks, {tally.events} events, {tally.facts} facts of ours"
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
    for difference in comparison.found:
        for text in _lines(difference, show_pii=show_pii):
            say(text)
    say(f"{len(comparison.found)} of {comparison.compared} leads differ")
    if comparison.gone_on:
        say(f"{comparison.gone_on} not compared: they have changed since, and compaction took their old revisions")


def show_promotion(comparison: Comparison, facts: Sequence[LeadPromoted]) -> None:
    left = len(comparison.found) - len(facts)
    say(f"{len(facts)} leads get a new revision" + (f"; {left} stay as they are" if left else ""))


def show_settled(settled: Settled) -> None:
    if settled.carried:
        say(f"{len(settled.carried)} leads carried over. The warehouse follows.")


def show_fingerprints(live: Reading, replayed: Reading) -> bool:
    """Whether the two streams of revisions are the same."""
    ours, theirs = fingerprint(live.revisions), fingerprint(replayed.revisions)
    say("SHA-256 of the revisions", f"  live      {ours}", f"  replayed  {theirs}")
    return ours == theirs


def _lines(difference: Difference, *, show_pii: bool) -> Iterator[str]:
    lead = difference.lead
    if difference.live is None or difference.replayed is None:
        yield f"{lead.lead_id}  {'only in the replay' if difference.live is None else 'not in the replay'}"
        return
    for change in difference.changes:
        before, after = (masked(change.field, value, show_pii=show_pii) for value in (change.live, change.replayed))
        yield f"{lead.lead_id}  {change.field}: {before} → {after}"


def _time(plan: Plan, name: str) -> str:
    return masked(name, getattr(plan, name), show_pii=True)
