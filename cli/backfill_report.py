"""The output of `leadstream backfill`: each finding as it comes, its progress, and each day at the end."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, datetime
from time import monotonic

from msgspec.structs import asdict
from rich.progress import BarColumn, Progress, TimeRemainingColumn

from cli.terminal import console, label_column, print_json, say
from leads.gaps import Finding, Standing
from messenger.events import PageId
from operations.backfill.position import Counts, Position, completeness
from operations.backfill.run import Report, ShowReading
from operations.masking import masked
from schemas.personal import MASK

WORDS: Mapping[Standing, str] = {
    "held": "held",
    "missing": "missing",
    "unanswered": "no answers",
    "cannot_tell": "cannot tell",
}


@dataclass(slots=True)
class BackfillReport(Report):
    """Findings and totals on stdout, as text or a JSON object a line; progress on stderr."""

    as_json: bool
    show_pii: bool
    totals: dict[PageId, Counts] = field(default_factory=dict)

    def resumed(self, page_id: PageId, position: Position) -> None:
        say(f"Page {page_id}: goes on after {position.conversations} conversations", err=True)

    def started_over(self, page_id: PageId) -> None:
        say(f"Page {page_id}: Meta no longer accepts its own cursor; from the beginning", err=True)

    def found(self, finding: Finding) -> None:
        if finding.standing == "held":
            return
        flow = finding.flow
        if self.as_json:
            line = {
                "standing": finding.standing,
                "page_id": finding.page_id,
                "psid": finding.psid if self.show_pii else None,
                "at": finding.at.isoformat(),
                "outcome": flow.outcome if flow else None,
                "lead_id": finding.lead_id,
                "answers": ([asdict(answer) for answer in flow.answers] if self.show_pii else len(flow.answers))
                if flow
                else None,
            }
            print_json(json.dumps(line, ensure_ascii=False))
            return
        answers = masked("answers", flow.answers, show_pii=self.show_pii) if flow else "older than what Meta shows"
        psid = finding.psid if self.show_pii else MASK
        outcome = flow.outcome if flow else "—"
        when = f"{finding.at:%Y-%m-%d %H:%M:%S}"
        lead = f"  {finding.lead_id}" if finding.lead_id else ""
        say(f"{WORDS[finding.standing]:<11}  {when}  {finding.page_id}  {psid}  {outcome:<10}  {answers}{lead}")

    def done(self, page_id: PageId, position: Position) -> None:
        self.totals[page_id] = position.counts
        for day, counts in sorted(position.counts.items()):
            self._day(page_id, day, counts)

    def count(self, standing: Standing) -> int:
        return sum(counts[standing] for of_page in self.totals.values() for counts in of_page.values())

    def _day(self, page_id: PageId, day: date, counts: Counter[Standing]) -> None:
        share = completeness(counts)
        if self.as_json:
            by_standing = {standing: counts[standing] for standing in WORDS}
            print_json(json.dumps({"page_id": page_id, "day": day.isoformat(), "completeness": share, **by_standing}))
            return
        summary = ", ".join(f"{counts[standing]} {word}" for standing, word in WORDS.items() if counts[standing])
        say(f"Page {page_id}, {day}: {'—' if share is None else f'{share:.1%} complete'} ({summary})")

    @contextmanager
    def reading(self, page_id: PageId, since: datetime, moment: datetime) -> Iterator[ShowReading]:
        """A bar of how far back the inbox has been read, with the calls, their rate and the time that is left."""
        columns = (label_column(), BarColumn(), TimeRemainingColumn())
        began, span = monotonic(), (moment - since).total_seconds()

        def show(conversations: int, calls: int, back_to: datetime) -> None:
            rate = calls / max(monotonic() - began, 1)
            text = f"Page {page_id}: {conversations} conversations, {calls} calls, {rate:.1f} a second"
            progress.update(task, description=text, completed=min((moment - back_to).total_seconds(), span))

        with Progress(*columns, console=console(stderr=True)) as progress:
            task = progress.add_task(f"Page {page_id}", total=max(span, 1))
            yield show
