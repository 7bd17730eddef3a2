"""A Page's inbox: at Meta's pace, again after what passes, back to the beginning of the span and no further."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import pytest

from leads.gaps import Span
from leads.pages import Page
from messenger.errors import GraphError, InvalidRequest, NotPermitted, OutcomeUnknown, PageBlocked, Throttled
from messenger.graph import GraphRequest, GraphResponse, Usage
from messenger.lead_flow import LeadForm
from messenger.wording import normal_text
from operations.backfill.inbox import Inbox, Look, look_through
from runtime.metrics import Metrics
from tests.builders import CITY, NOON, PAGE, PERSON, SECOND

pytestmark = pytest.mark.anyio

HOUR = timedelta(hours=1)
SPAN = Span(since=NOON - 10 * HOUR, until=NOON, now=NOON + HOUR)
QUESTION = normal_text(CITY.question)
FORM = LeadForm((QUESTION,), frozenset([QUESTION]), intros=frozenset(["welcome"]))
Answer = GraphResponse | GraphError


@dataclass
class AMeta:
    """Answers in order, the last one again and again; time passes only where somebody sleeps."""

    answers: Sequence[Answer]
    now: datetime = NOON
    asked: list[GraphRequest] = field(default_factory=list)
    asked_at: list[datetime] = field(default_factory=list)

    async def call(self, request: GraphRequest, token: str, **_: object) -> GraphResponse:
        assert token == "t0ken"
        answer = self.answers[min(len(self.asked), len(self.answers) - 1)]
        self.asked.append(request)
        self.asked_at.append(self.now)
        if isinstance(answer, GraphError):
            raise answer
        return answer

    async def sleep(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    @property
    def inbox(self) -> Inbox:
        return Inbox(
            self,
            Page(PAGE, access_token="t0ken"),
            now=lambda: self.now,
            sleep=self.sleep,
            fraction=lambda: 1.0,
            metrics=Metrics(),
        )


def a_conversation(changed_at: datetime) -> dict[str, Any]:
    said = [
        (PERSON, CITY.answer, changed_at),
        (PAGE, CITY.question, changed_at - SECOND),
        (PAGE, "Welcome", changed_at - 2 * SECOND),
    ]
    rows = [
        {"id": f"m_{at:%H%M%S}", "from": {"id": who}, "message": text, "created_time": f"{at:%Y-%m-%dT%H:%M:%S}+0000"}
        for who, text, at in said
    ]
    return {
        "participants": {"data": [{"id": PAGE}, {"id": PERSON}]},
        "updated_time": f"{changed_at:%Y-%m-%dT%H:%M:%S}+0000",
        "messages": {"data": rows},
    }


def a_page(*changed_at: datetime, after: str | None = "next", usage: Usage | None = None) -> GraphResponse:
    paging = {"cursors": {"after": after}, "next": "https://graph.example/?access_token=t0ken"} if after else {}
    return GraphResponse({"data": [a_conversation(moment) for moment in changed_at], "paging": paging}, usage)


async def looks(meta: AMeta, after: str | None = None) -> list[Look]:
    return [look async for look in look_through(meta.inbox, [FORM], {}, SPAN, after)]


async def test_the_inbox_is_read_back_to_the_beginning_of_the_span() -> None:
    meta = AMeta([a_page(NOON - HOUR), a_page(NOON - 9 * HOUR, NOON - 11 * HOUR), a_page(NOON - 12 * HOUR)])

    first, second = await looks(meta)

    assert [finding.standing for finding in (*first.findings, *second.findings)] == ["missing", "missing"]
    assert (first.after, second.after) == ("next", None)
    assert [request.query.get("after") for request in meta.asked] == [None, "next"]


async def test_it_ends_with_the_last_page_and_goes_on_from_a_cursor() -> None:
    meta = AMeta([a_page(NOON - HOUR, after=None)])

    (look,) = await looks(meta, after="c7")

    assert (look.after, look.conversations, look.back_to) == (None, 1, NOON - HOUR)
    assert meta.asked[0].query["after"] == "c7"


@pytest.mark.parametrize("fails", [0, 4])
async def test_no_second_has_more_than_two_calls_however_many_fail(fails: int) -> None:
    pages = [a_page(NOON - number * SECOND, after=f"c{number}") for number in range(1, 8)]
    meta = AMeta([*([OutcomeUnknown("2")] * fails), *pages, a_page(after=None)])

    await looks(meta)

    assert len(meta.asked_at) == fails + 8
    for begin in meta.asked_at:
        assert sum(begin <= moment < begin + SECOND for moment in meta.asked_at) <= 2


async def test_a_throttled_call_is_made_again_when_meta_says() -> None:
    meta = AMeta([Throttled("613", code=613, regain_after=timedelta(minutes=3)), a_page(after=None)])

    await looks(meta)

    assert meta.asked_at[1] - meta.asked_at[0] >= timedelta(minutes=3)


async def test_a_limit_that_is_nearly_used_up_slows_it_down() -> None:
    meta = AMeta([a_page(NOON - SECOND, usage=Usage(95, timedelta(minutes=1))), a_page(after=None)])

    await looks(meta)

    assert meta.asked_at[1] - meta.asked_at[0] >= timedelta(minutes=1)


@pytest.mark.parametrize(
    ("fault", "tries"),
    [(PageBlocked("190", code=190), 1), (InvalidRequest("100"), 1), (OutcomeUnknown("2"), 5), (Throttled("4"), 20)],
)
async def test_what_does_not_pass_is_an_error(fault: GraphError, tries: int) -> None:
    meta = AMeta([fault])

    with pytest.raises(type(fault)):
        await looks(meta)

    assert len(meta.asked) == tries


async def test_forms_of_all_pages_are_read_and_what_asks_nothing_is_none() -> None:
    steps = [{"step_type": "INTRO", "message": "Welcome"}, {"step_type": "QUESTION", "message": CITY.question}]
    first = GraphResponse(
        {"data": [{"step_list": steps}, {}], "paging": {"cursors": {"after": "b"}, "next": "x"}}, None
    )
    meta = AMeta([first, GraphResponse({"data": [{"step_list": steps}]}, None)])

    assert await meta.inbox.forms() == (FORM, FORM)


async def test_forms_that_may_not_be_read_are_none_and_a_dead_token_is_an_error() -> None:
    assert await AMeta([NotPermitted("200", code=200)]).inbox.forms() == ()
    with pytest.raises(PageBlocked):
        await AMeta([PageBlocked("190", code=190)]).inbox.forms()
