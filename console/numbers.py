"""The numbers of the warehouse: the funnel, speed to lead, days and Pages, and how follow-ups ended."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from itertools import pairwise
from typing import Any

from messenger.events import PageId
from sinks.warehouse.query import ask

SPANS: Mapping[str, timedelta | None] = {
    "24 hours": timedelta(hours=24),
    "7 days": timedelta(days=7),
    "30 days": timedelta(days=30),
    "all time": None,
}
_MONTH = "30 days"
# Speed to lead, up to so many seconds; the last bucket has no end.
BUCKETS: Mapping[str, float] = {"5 s": 5, "30 s": 30, "1 min": 60, "5 min": 300, "15 min": 900, "1 h": 3600}
_BEGINNING = datetime.fromisoformat("1970-01-01T00:00:00+00:00")

_JOURNEYS = """
with journey as materialized (
    select page_id, day, outcome, answered, first_seen_at, followed_up_at, read_at, replied_at, seconds_to_followup
    from lead_journeys
), span(name, since) as (values {spans})
select name, grouping(page_id), grouping(day), page_id, day,
       count(*), count(*) filter (where outcome = 'complete'), count(*) filter (where answered), count(followed_up_at),
       count(read_at), count(replied_at),
       percentile_cont(0.5) within group (order by seconds_to_followup),
       percentile_cont(0.9) within group (order by seconds_to_followup),
       min(first_seen_at), {buckets}
from journey join span on first_seen_at >= since
group by grouping sets ((name), (name, page_id), (name, day))
having grouping(day) = 1 or name = '30 days'
order by day
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


@dataclass(frozen=True, slots=True)
class Funnel:
    """How many leads got how far, and how long the first follow-up took; `buckets` go with `BUCKETS` and the rest."""

    leads: int
    complete: int
    answered: int
    followed_up: int
    read: int
    replied: int
    median_seconds: float | None
    p90_seconds: float | None
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


def read_numbers(warehouse: str, at: datetime) -> Numbers:
    """Raises `BadQuery`."""
    rows = ask(warehouse, _query(at)).rows
    return Numbers(
        spans={row[0]: _funnel(row) for row in rows if row[1] and row[2]},
        pages={(row[0], PageId(row[3])): _funnel(row) for row in rows if not row[1]},
        days={row[4]: _funnel(row) for row in rows if not row[2]},
        heard={PageId(page_id): heard_at for page_id, heard_at in ask(warehouse, _HEARD).rows},
    )


def read_outcomes(warehouse: str) -> list[OutcomeCount]:
    """Raises `BadQuery`."""
    return [OutcomeCount(*row) for row in ask(warehouse, _OUTCOMES).rows]


def _query(at: datetime) -> str:
    sinces = {name: _BEGINNING if length is None else at - length for name, length in SPANS.items()}
    spans = ", ".join(f"('{name}', timestamptz '{since.isoformat()}')" for name, since in sinces.items())
    ends = [*BUCKETS.values()]
    bounds = ["seconds_to_followup < 5"]
    bounds += [f"seconds_to_followup >= {low} and seconds_to_followup < {high}" for low, high in pairwise(ends)]
    bounds.append(f"seconds_to_followup >= {ends[-1]}")
    return _JOURNEYS.format(spans=spans, buckets=", ".join(f"count(*) filter (where {bound})" for bound in bounds))


def _funnel(row: Sequence[Any]) -> Funnel:
    return Funnel(*[*row[5:14], tuple(row[14:])])
