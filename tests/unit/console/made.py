"""Made data for the pages: dead letters, a timeline, numbers, the states of stages."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta

from prometheus_client.samples import Sample

from console.numbers import Funnel, Numbers, Speed
from messenger.events import PageId
from operations.dead_letters.letters import Letter, Standing
from operations.dead_letters.redrive import Selection
from operations.explain.timeline import Coming, Moment, Place, Timeline
from operations.stage_states import Readiness, StageState
from runtime.clock import now

SECRET = "a secret answer"
PSID = "7100000000000001"
PAGE_ID = PageId("542998526103632")
LEAD = "6f0f7b0e-4a52-5f5e-9a5c-2f6f1f1d9c11"
REFUSED_AT = datetime(2026, 5, 5, 12, tzinfo=UTC)


def a_letter(offset: int = 0, *, reason: str = "not_json", topic: str = "messenger-webhooks") -> Letter:
    return Letter(
        f"{topic}-dlq",
        3,
        offset,
        REFUSED_AT + timedelta(minutes=offset),
        topic,
        (3, 100 + offset),
        stage="split",
        fault="UnreadableDelivery",
        reason=reason,
        redrives=0,
        key=f"{PAGE_ID}:{PSID}".encode(),
        value=SECRET.encode(),
        headers=[],
    )


def a_selection(*letters: Letter, standing: Standing = "open") -> Selection:
    return Selection(tuple((letter, standing) for letter in letters), {})


def a_timeline() -> Timeline:
    return Timeline(
        LEAD,
        PAGE_ID,
        PSID,
        (LEAD,),
        (
            Moment(REFUSED_AT, "webhook", "a delivery was received", Place("messenger-webhooks", 3, 1)),
            Moment(REFUSED_AT, "revision", "revision 1", reason=None, personal=SECRET, lead_id=LEAD),
            Moment(REFUSED_AT, "withheld", "rule thanks did not act", reason="no_match"),
        ),
        (Coming(REFUSED_AT, "the window closes"),),
    )


def a_funnel(leads: int = 200, first_at: datetime = REFUSED_AT) -> Funnel:
    return Funnel(
        leads,
        leads * 3 // 4,
        leads // 2,
        leads // 3,
        leads // 4,
        leads // 5,
        first_at,
        (9, 8, 7, 6, 5, 4, 3),
    )


def some_numbers(*, heard_ago: timedelta = timedelta(minutes=1), leads: int = 2000) -> Numbers:
    at = now()
    funnel = a_funnel(leads, at - timedelta(days=20))
    spans = dict.fromkeys(("24 hours", "7 days", "30 days", "all time"), funnel)
    pages = {(name, PAGE_ID): funnel for name in spans}
    speeds = dict.fromkeys(spans, Speed(4.2, 61.0))
    return Numbers(spans, speeds, pages, {date(at.year, at.month, at.day): funnel}, {PAGE_ID: at - heard_ago})


def a_state(name: str, *, ready: bool = True, seen: str = "", samples: Sequence[Sample] = ()) -> StageState:
    return StageState(name, Readiness(ready, [{name: (ready, seen)}]), list(samples))


def a_sample(name: str, value: float, **labels: str) -> Sample:
    return Sample(f"leadstream_{name}", labels, value)
