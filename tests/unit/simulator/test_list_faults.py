"""Lists that Meta shortens or breaks, as our clients read them from the fake."""

from dataclasses import dataclass
from datetime import datetime, timedelta

import pytest

from leads.gaps import Span
from leads.pages import Page
from messenger.client import GraphClient
from messenger.errors import BrokenList, GraphError, TooMuchData
from messenger.events import PageId, Psid
from messenger.graph import conversation_request
from operations.backfill.inbox import Inbox, Look, look_through
from runtime.metrics import Metrics
from simulator.faults import Fault
from simulator.threads import Line, ThreadNews
from tests.unit.simulator.conftest import NOW, PAGE, PSID, Meta, code_of

pytestmark = pytest.mark.anyio

TOO_MUCH = Fault("too_much_data")
CONVERSATIONS = 60  # and the one that the fixture begins with


@dataclass
class Reading:
    """An inbox of 61 conversations in the fake, read until it ends or fails."""

    meta: Meta
    calls: int = 0

    def __post_init__(self) -> None:
        self.meta.configure(conversations_per_second=100)
        self.meta.world.threads.learn(
            [
                ThreadNews(
                    page_id=PAGE,
                    psid=Psid(f"70{number:03}"),
                    owner=None,
                    last_user_message_at=None,
                    unavailable=False,
                    lines=(Line(f"m_{number}", True, "hello", NOW - timedelta(minutes=number)),),
                )
                for number in range(CONVERSATIONS)
            ],
            NOW,
        )

    async def looks(self) -> tuple[list[Look], GraphError | None]:
        async def sleep(seconds: float) -> None:
            self.meta.now += timedelta(seconds=seconds)

        def now() -> datetime:
            return self.meta.now

        graph = GraphClient("http://graph.test", "v25.0", self.meta.http)
        inbox = Inbox(
            graph, Page(PAGE, access_token="t0ken"), now=now, sleep=sleep, fraction=lambda: 1.0, metrics=Metrics()
        )
        span = Span(since=NOW - timedelta(days=1), until=NOW, now=NOW)
        seen: list[Look] = []
        try:
            async for look in look_through(inbox, [], {}, span):
                seen.append(look)  # noqa: PERF401 - what came before an error counts
        except GraphError as fault:
            return seen, fault
        finally:
            self.calls = inbox.calls
        return seen, None


def counts(seen: list[Look]) -> list[int]:
    return [look.conversations for look in seen]


async def test_too_much_data_is_answered_by_a_smaller_page_from_the_same_cursor(meta: Meta) -> None:
    reading = Reading(meta)
    meta.world.faults.plan("conversations", sequence=[None, TOO_MUCH, TOO_MUCH])

    seen, fault = await reading.looks()

    assert fault is None
    assert counts(seen) == [25, 6, 12, 18]
    assert reading.calls == 6


async def test_a_single_row_that_is_too_much_is_an_error(meta: Meta) -> None:
    reading = Reading(meta)
    meta.world.faults.plan("conversations", rates={TOO_MUCH: 1.0})

    seen, fault = await reading.looks()

    assert isinstance(fault, TooMuchData)
    assert (counts(seen), reading.calls) == ([], 5)


@pytest.mark.parametrize(
    ("kind", "words"), [("repeated_cursor", "repeats a cursor"), ("lost_cursor", "without a cursor")]
)
async def test_a_list_without_a_way_on_ends_after_its_last_page(meta: Meta, kind: str, words: str) -> None:
    reading = Reading(meta)
    meta.world.faults.plan("conversations", sequence=[None], rates={Fault(kind): 1.0})  # type: ignore[arg-type]

    seen, fault = await reading.looks()

    assert isinstance(fault, BrokenList)
    assert words in str(fault)
    assert (counts(seen), reading.calls) == ([25, 25], 2)
    assert seen[-1].after == seen[0].after, "the next run asks for the page behind this cursor again"


async def test_the_fake_refuses_with_metas_code_and_words(meta: Meta) -> None:
    meta.world.faults.plan("conversations", sequence=[TOO_MUCH])

    response = await meta.get(f"/v25.0/{PAGE}/conversations")

    assert (response.status_code, code_of(response)) == (500, (1, None))
    assert "reduce the amount of data" in response.json()["error"]["message"]


async def test_another_error_of_the_same_code_is_no_matter_of_size(meta: Meta) -> None:
    meta.world.faults.plan("conversations", sequence=[Fault("graph_error", 1)])
    client = GraphClient("http://graph.test", "v25.0", meta.http)

    with pytest.raises(GraphError) as raised:
        await client.call(conversation_request(PageId(PAGE), PSID), "t0ken")

    assert not isinstance(raised.value, TooMuchData)
