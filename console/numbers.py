"""The numbers of the warehouse: the funnel, speed to lead, days and Pages, and how follow-ups ended."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from messenger.events import PageId
from sinks.warehouse.query import ask

SPANS: Mapping[str, timedelta | None] = {
    "24 hours": timedelta(hours=24),
    "7 days": timedelta(days=7),
    "30 days": timedelta(days=30),
    "all time": None,
}
_MONTH = "30 days"
_NAMES = tuple(SPANS)
# Speed to lead, up to so many seconds; the last bucket has no end.
BUCKETS: Mapping[str, float] = {"5 s": 5, "30 s": 30, "1 min": 60, "5 min": 300, "15 min": 900, "1 h": 3600}
_BEGINNING = datetime.fromisoformat("1970-01-01T00:00:00+00:00")

# `age` is the number of the shortest span that a lead is in, so that one pass over the leads gives every span.
_JOURNEYS = """
with journey as materialized (
    select page_id, outcome, answered, first_seen_at, followed_up_at, read_at, replied_at, seconds_to_followup,
           case {ages} end as age, case when first_seen_at >= {month} then day end as day
    from lead_journeys
), speed as (
    select {speeds} from journey
), counted as (
    select age, page_id, day, count(*), count(*) filter (where outcome = 'complete'), count(*) filter (where answered),
           count(followed_up_at), count(read_at), count(replied_at), min(first_seen_at), {buckets}
    from journey group by age, page_id, day
)
select * from speed cross join counted
"""
_HEARD = """
select page_id, max(heard_at) from (
    select page_id, updated_at as heard_at from lead_events
    union all select page_id, received_at from user_messages
) heard group by page_id
"""
_OUTCOMES = """
select status, split_part(coalesce(reason, ''), ':', 1) as reason, error_code, count(*), min(occurred_at),
       max(occurred_at)
from followup_outcomes where rule <> 'opt-out' group by 1, 2, 3 order by 4 desc, 1, 2
"""


class Speed(NamedTuple):
    """In how many seconds half, and nine of ten, of the leads had their first follow-up; None where none had one."""

    median: float | None
    p90: float | None


@dataclass(frozen=True, slots=True)
class Funnel:
    """How many leads got how far; `buckets` are the first follow-ups, as `BUCKETS` has them and the rest."""

    leads: int
    complete: int
    answered: int
    followed_up: int
    read: int
    replied: int
    first_at: datetime
    buckets: tuple[int, ...]

    @property
    def steps(self) -> tuple[tuple[str, int], ...]:
        return (
            ("Leads", self.leads),
            ("Complete", self.complete),
            ("With answers", self.answered),
            ("Followed up", self.followed_up),
            ("Read", self.read),
            ("Replied", self.replied),
        )


@dataclass(frozen=True, slots=True)
class Numbers:
    """The numbers of each span, of each Page in it, and of the days of a month; `heard` is a Page's newest webhook."""

    spans: Mapping[str, Funnel]
    speeds: Mapping[str, Speed]
    pages: Mapping[tuple[str, PageId], Funnel]
    days: Mapping[date, Funnel]
    heard: Mapping[PageId, datetime]

    def usual_gap(self, page_id: PageId, at: datetime) -> timedelta | None:
        """The mean time between two leads of a Page in the last month; None where there are too few to say."""
        month = self.pages.get((_MONTH, page_id))
        return None if month is None or month.leads < _ENOUGH else (at - month.first_at) / month.leads

    def is_silent(self, page_id: PageId, at: datetime) -> bool:
        """Whether nothing came for ten times as long as usual, and for an hour."""
        gap, heard_at = self.usual_gap(page_id, at), self.heard.get(page_id)
        return gap is not None and heard_at is not None and at - heard_at > max(_SILENT_GAPS * gap, _SHORTEST_SILENCE)


_ENOUGH, _SILENT_GAPS, _SHORTEST_SILENCE = 10, 10, timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class OutcomeCount:
    """How many follow-ups are in one state for one reason."""

    status: str
    reason: str
    error_code: int | None
    count: int
    first_at: datetime
    last_at: datetime


def read_numbers(warehouse: str, at: datetime, spill: Path) -> Numbers:
    """Raises `BadQuery`."""
    rows = [_Counted.of(row) for row in ask(warehouse, _query(at), spill=spill).rows]
    spans: defaultdict[str, list[_Counted]] = defaultdict(list)
    pages: defaultdict[tuple[str, PageId], list[_Counted]] = defaultdict(list)
    days: defaultdict[date, list[_Counted]] = defaultdict(list)
    for row in rows:
        for name in _NAMES[row.age :]:
            spans[name].append(row)
            pages[name, row.page_id].append(row)
        if row.day is not None:
            days[row.day].append(row)
    return Numbers(
        spans={name: _funnel(some) for name, some in spans.items()},
        speeds={name: speed for row in rows[:1] for name, speed in zip(_NAMES, row.speeds, strict=True)},
        pages={place: _funnel(some) for place, some in pages.items()},
        days={day: _funnel(some) for day, some in days.items()},
        heard={PageId(page_id): heard_at for page_id, heard_at in ask(warehouse, _HEARD, spill=spill).rows},
    )


def read_outcomes(warehouse: str, spill: Path) -> list[OutcomeCount]:
    """Raises `BadQuery`."""
    return [OutcomeCount(*row) for row in ask(warehouse, _OUTCOMES, spill=spill).rows]


class _Counted(NamedTuple):
    """The leads of one age, Page and day; `speeds` are those of every span."""

    speeds: tuple[Speed, ...]
    age: int
    page_id: PageId
    day: date | None
    counts: Sequence[int]
    first_at: datetime
    buckets: Sequence[int]

    @classmethod
    def of(cls, row: Sequence[Any]) -> "_Counted":
        figures, rest = row[: 2 * len(SPANS)], row[2 * len(SPANS) :]
        speeds = tuple(Speed(*figures[2 * number : 2 * number + 2]) for number in range(len(SPANS)))
        return cls(speeds, rest[0], PageId(rest[1]), rest[2], rest[3:9], rest[9], rest[10:])


def _funnel(rows: Sequence[_Counted]) -> Funnel:
    leads, complete, answered, followed_up, read, replied = (
        sum(row.counts[number] for row in rows) for number in range(6)
    )
    buckets = tuple(map(sum, zip(*(row.buckets for row in rows), strict=True)))
    first_at = min(row.first_at for row in rows)
    return Funnel(leads, complete, answered, followed_up, read, replied, first_at, buckets)


def _query(at: datetime) -> str:
    starts = [f"timestamptz '{(at - length if length else _BEGINNING).isoformat()}'" for length in SPANS.values()]
    ages = [f"when first_seen_at >= {start} then {age}" for age, start in enumerate(starts[:-1])]
    speeds = [
        f"percentile_cont({part}) within group (order by seconds_to_followup) filter (where first_seen_at >= {start})"
        for start in starts
        for part in (0.5, 0.9)
    ]
    ends = [*BUCKETS.values()]
    bounds = [f"seconds_to_followup < {ends[0]}"]
    bounds += [f"seconds_to_followup >= {low} and seconds_to_followup < {high}" for low, high in pairwise(ends)]
    bounds.append(f"seconds_to_followup >= {ends[-1]}")
    return _JOURNEYS.format(
        ages=f"{' '.join(ages)} else {len(starts) - 1}",
        month=starts[_NAMES.index(_MONTH)],
        speeds=", ".join(f"{speed} as speed_{number}" for number, speed in enumerate(speeds)),
        buckets=", ".join(f"count(*) filter (where {bound})" for bound in bounds),
    )
