"""What `leadstream backfill` prints: each finding as it comes, how far it is, and each day in the end."""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import date, datetime
from time import monotonic

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from cli.lead_text import shown
from cli.terminal import one_line, say
from leads.gaps import Finding, Standing
from messenger.events import PageId
from operations.backfill.position import Counts, Position, completeness
from schemas.personal import MASK

WORDS: Mapping[Standing, str] = {
    "held": "held",
    "missing": "missing",
    "unanswered": "no answers",
    "cannot_tell": "cannot tell",
}


@dataclass(slots=True)
class Report:
    """Findings and totals on stdout, as text or a JSON object a line; how far it is on stderr. `quiet` says nothing."""

    as_json: bool
    show_pii: bool
    quiet: bool = False
    totals: dict[PageId, Counts] = field(default_factory=dict)

    def taken_up_again(self, page_id: PageId, position: Position) -> None:
        say(f"Page {page_id}: goes on after {position.conversations} conversations", err=True)

    def started_over(self, page_id: PageId) -> None:
        say(f"Page {page_id}: Meta does not know its own cursor any more; from the beginning", err=True)

    def found(self, finding: Finding) -> None:
        if finding.standing == "held" or self.quiet:
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
                "answers": ([asdict(one) for one in flow.answers] if self.show_pii else len(flow.answers))
                if flow
                else None,
            }
            say(json.dumps(line, ensure_ascii=False))
            return
        answers = shown("answers", flow.answers, show_pii=self.show_pii) if flow else "older than what Meta shows"
        psid = finding.psid if self.show_pii else MASK
        outcome = flow.outcome if flow else "—"
        when = f"{finding.at:%Y-%m-%d %H:%M:%S}"
        say(
            one_line(f"{WORDS[finding.standing]:<11}  {when}  {finding.page_id}  {psid}  {outcome:<10}  {answers}")
            + (f"  {finding.lead_id}" if finding.lead_id else "")
        )

    def done(self, page_id: PageId, position: Position) -> None:
        self.totals[page_id] = position.counts
        for day, counts in sorted(position.counts.items() if not self.quiet else ()):
            self._day(page_id, day, counts)

    def count(self, standing: Standing) -> int:
        return sum(counts[standing] for of_page in self.totals.values() for counts in of_page.values())

    def _day(self, page_id: PageId, day: date, counts: Counter[Standing]) -> None:
        share = completeness(counts)
        if self.as_json:
            told = {standing: counts[standing] for standing in WORDS}
            say(json.dumps({"page_id": page_id, "day": day.isoformat(), "completeness": share, **told}))
            return
        told_in_words = ", ".join(f"{counts[standing]} {word}" for standing, word in WORDS.items() if counts[standing])
        say(f"Page {page_id}, {day}: {'—' if share is None else f'{share:.1%} complete'} ({told_in_words})")


class Bar:
    """How far back the inbox has been read, with the calls, their rate and the time that is left."""

    def __init__(self, page_id: PageId, since: datetime, now: datetime, *, quiet: bool = False) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
        self._progress = Progress(*columns, console=Console(stderr=True, quiet=quiet))
        self._page_id, self._since, self._now = page_id, since, now
        self._began = monotonic()
        self._task: TaskID = self._progress.add_task(self._told(0, 0), total=max((now - since).total_seconds(), 1))

    def __enter__(self) -> "Bar":
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def show(self, conversations: int, calls: int, back_to: datetime) -> None:
        done = min((self._now - back_to).total_seconds(), (self._now - self._since).total_seconds())
        self._progress.update(self._task, description=self._told(conversations, calls), completed=done)

    def _told(self, conversations: int, calls: int) -> str:
        rate = calls / max(monotonic() - self._began, 1)
        return f"Page {self._page_id}: {conversations} conversations, {calls} calls, {rate:.1f} a second"
