"""The poster signs, retries, keeps a person's order, and never leaves this machine."""

import json
from collections.abc import Callable, Iterator
from datetime import timedelta

import anyio
import httpx
import pytest

from messenger.events import PageId, Psid
from messenger.signature import verify_signature
from simulator.campaign import PlannedDelivery
from simulator.poster import (
    GraphControl,
    NotLoopback,
    Poster,
    Posting,
    at_full_speed,
    at_rate,
    post_deliveries,
    require_loopback,
    require_peer,
    retry_delays,
)
from simulator.threads import ThreadNews

pytestmark = pytest.mark.anyio

_URL = "http://127.0.0.1:8000/webhooks/messenger"
_AT_ONCE = (timedelta(0), timedelta(0))


def _delivery(body: bytes, *people: str, news: tuple[ThreadNews, ...] = ()) -> PlannedDelivery:
    return PlannedDelivery(at=timedelta(0), body=body, people=people, verdicts=(), news=news)


def _poster(answer: Callable[[httpx.Request], httpx.Response]) -> Poster:
    http = httpx.AsyncClient(transport=httpx.MockTransport(answer))
    return Poster(http, _URL, "s3cret", delays=_AT_ONCE)


def _statuses(*statuses: int) -> Callable[[httpx.Request], httpx.Response]:
    remaining: Iterator[int] = iter(statuses)
    return lambda _: httpx.Response(next(remaining))


async def test_body_is_signed_and_its_receipt_kept() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        verify_signature(request.content, request.headers["X-Hub-Signature-256"], ["s3cret"])
        return httpx.Response(200, headers={"Leadstream-Receipt": "messenger-webhooks/3/42"})

    answered = await _poster(answer).post(b'{"object":"page"}')

    assert (answered.status, answered.receipt, answered.attempts) == (200, "messenger-webhooks/3/42", 1)


async def test_body_is_posted_again_until_it_is_taken() -> None:
    answered = await _poster(_statuses(503, 500, 200)).post(b"{}")

    assert (answered.status, answered.attempts) == (200, 3)


async def test_poster_gives_up_after_its_retries() -> None:
    answered = await _poster(_statuses(503, 503, 503)).post(b"{}")

    assert (answered.status, answered.attempts) == (503, 3)


async def test_no_answer_is_retried_and_journalled() -> None:
    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused", request=request)

    answered = await _poster(refuse).post(b"{}")

    assert (answered.status, answered.receipt, answered.attempts) == (None, None, 3)


class Door:
    """A receiver that answers when it is told to; remembers who came in, in order."""

    def __init__(self) -> None:
        self.entered: list[bytes] = []
        self.opened = anyio.Event()
        self.at_once = 0
        self.most_at_once = 0

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        self.entered.append(request.content)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await self.opened.wait()
        self.at_once -= 1
        return httpx.Response(200)

    def poster(self) -> Poster:
        return Poster(httpx.AsyncClient(transport=httpx.MockTransport(self)), _URL, "s3cret", delays=())


async def test_one_persons_deliveries_wait_for_each_other() -> None:
    door = Door()
    deliveries = [
        _delivery(b"a1", "ana"),
        _delivery(b"ab", "ana", "bob"),
        _delivery(b"b2", "bob"),
        _delivery(b"c", "cy"),
    ]

    async with anyio.create_task_group() as group:
        group.start_soon(post_deliveries, deliveries, door.poster())
        await anyio.wait_all_tasks_blocked()
        waiting = list(door.entered)
        door.opened.set()

    assert waiting == [b"a1", b"c"]
    assert door.entered == [b"a1", b"c", b"ab", b"b2"]


async def test_no_more_than_allowed_are_on_their_way_at_once() -> None:
    door = Door()

    async def run() -> None:
        await post_deliveries([_delivery(b"x") for _ in range(20)], door.poster(), concurrency=3)

    async with anyio.create_task_group() as group:
        group.start_soon(run)
        await anyio.wait_all_tasks_blocked()
        door.opened.set()

    assert door.most_at_once == 3
    assert len(door.entered) == 20


async def test_journal_and_progress_name_every_delivery() -> None:
    deliveries = [_delivery(str(number).encode()) for number in range(5)]
    seen: list[Posting] = []

    journal = await post_deliveries(deliveries, _poster(lambda _: httpx.Response(200)), on_posted=seen.append)

    assert [posting.delivery for posting in journal] == deliveries
    assert sorted(seen, key=lambda posting: posting.delivery.body) == list(journal)


async def test_graph_is_told_before_the_webhook_arrives() -> None:
    effects: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        effects.append(f"{request.method} {request.url.path}")
        return httpx.Response(200)

    http = httpx.AsyncClient(transport=httpx.MockTransport(answer))
    news = ThreadNews(page_id=PageId("1"), psid=Psid("2"), owner=None)
    deliveries = [_delivery(b"{}", news=(news,)), _delivery(b"{}")]

    await post_deliveries(
        deliveries, Poster(http, _URL, "s"), graph=GraphControl(http, "http://localhost:8090/"), concurrency=1
    )

    assert effects == ["PUT /_simulator/conversations", "POST /webhooks/messenger", "POST /webhooks/messenger"]


async def test_graph_that_takes_no_news_ends_the_run() -> None:
    http = httpx.AsyncClient(transport=httpx.MockTransport(lambda _: httpx.Response(500)))
    news = ThreadNews(page_id=PageId("1"), psid=Psid("2"), owner=None)
    graph = GraphControl(http, "http://127.0.0.1:8090")

    with pytest.raises(ExceptionGroup) as raised:
        await post_deliveries([_delivery(b"{}", news=(news,))], Poster(http, _URL, "s"), graph=graph)

    assert raised.group_contains(httpx.HTTPStatusError)


async def test_news_reaches_the_graph_as_json() -> None:
    bodies: list[object] = []

    def answer(request: httpx.Request) -> httpx.Response:
        bodies.append(json.loads(request.content))
        return httpx.Response(200)

    http = httpx.AsyncClient(transport=httpx.MockTransport(answer))

    await GraphControl(http, "http://127.0.0.1:8090").report(
        [ThreadNews(page_id=PageId("1"), psid=Psid("2"), owner=None)]
    )

    assert bodies == [
        [{"page_id": "1", "psid": "2", "owner": None, "last_user_message_at": None, "unavailable": False, "lines": []}]
    ]


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:8000", "http://localhost/x", "http://[::1]:8000/", "http://127.9.9.9"]
)
async def test_this_machine_is_a_target(url: str) -> None:
    assert require_loopback(url) == url


@pytest.mark.parametrize(
    "url", ["https://graph.facebook.com", "http://10.0.0.1", "http://localhost.example.test", "http://0.0.0.0", "x", ""]
)
async def test_another_machine_is_no_target(url: str) -> None:
    with pytest.raises(NotLoopback):
        require_loopback(url)
    with pytest.raises(NotLoopback):
        Poster(httpx.AsyncClient(), url, "s")
    with pytest.raises(NotLoopback):
        GraphControl(httpx.AsyncClient(), url)


def test_a_peer_is_a_target_beside_this_machine_and_no_other_name_is() -> None:
    assert require_loopback("http://ingest:8000/x", ["ingest"]) == "http://ingest:8000/x"
    with pytest.raises(NotLoopback):
        require_loopback("http://ingest.example.test:8000", ["ingest"])


@pytest.mark.parametrize("name", ["graph.facebook.com", "10.0.0.1", "::1", "", "in gest", "2130706433"])
def test_a_peer_is_a_name_that_no_other_network_resolves(name: str) -> None:
    with pytest.raises(NotLoopback):
        require_peer(name)


async def test_paces_say_when_a_delivery_is_due() -> None:
    delivery = PlannedDelivery(at=timedelta(0), body=b"", people=(), verdicts=())

    assert at_full_speed(10, delivery) == timedelta(0)
    assert at_rate(20)(10, delivery) == timedelta(milliseconds=500)


async def test_retries_start_at_once_and_slow_down() -> None:
    seconds = [delay.total_seconds() for delay in retry_delays(9)]

    assert seconds == [0, 0.5, 1, 2, 4, 8, 16, 30, 30]
    assert retry_delays(0) == ()
