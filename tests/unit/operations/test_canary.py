"""The canary's flights: all partitions in turn, and each loss with its reason."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import cycle

import httpx
import pytest

from leads.canary import mark_of
from leads.pages import is_canary
from messenger.events import PageId, Psid
from messenger.signature import verify_signature
from operations.canary import Canary, pages_of
from runtime.health import Health
from runtime.kafka import partition_of
from runtime.metrics import Metrics

pytestmark = pytest.mark.anyio


@dataclass
class _Record:
    key: bytes


@dataclass
class _Outcomes:
    """The outcomes topic, to whose end records are put."""

    records: "asyncio.Queue[_Record]" = field(default_factory=asyncio.Queue)

    async def __aiter__(self) -> AsyncIterator[_Record]:
        while True:
            yield await self.records.get()


def _canary(answer: Callable[[httpx.Request], httpx.Response], outcomes: _Outcomes, patience: float = 5) -> Canary:
    http = httpx.AsyncClient(transport=httpx.MockTransport(answer))
    return Canary(http, "http://127.0.0.1:1/", "s3cret", outcomes, cycle([PageId("00")]), timedelta(seconds=patience))


async def _fly(canary: Canary) -> tuple[float | None, float | None, tuple[bool, str]]:
    """How many came back and were lost, and the health."""
    metrics, health = Metrics(), Health()
    await canary.fly(metrics, health)
    names = ("leadstream_canary_seconds_count", "leadstream_canary_lost_total")
    back, lost = map(metrics.registry.get_sample_value, names)
    return back, lost, health.parts["canary"]


async def test_it_comes_back_when_its_own_mark_does() -> None:
    outcomes = _Outcomes()

    def answer(request: httpx.Request) -> httpx.Response:
        verify_signature(request.content, [request.headers["x-hub-signature-256"]], ("s3cret",))
        psid = json.loads(request.content)["entry"][0]["messaging"][0]["sender"]["id"]
        for key in (b"a-command", mark_of(Psid("7")).encode(), mark_of(psid).encode()):
            outcomes.records.put_nowait(_Record(key))
        return httpx.Response(200)

    back, lost, (is_ready, _) = await _fly(_canary(answer, outcomes))

    assert (back, lost, is_ready) == (1, 0, True)
    assert outcomes.records.empty()


@pytest.mark.parametrize(
    ("status", "patience", "seen"),
    [(503, 5.0, "lost: ingest answers 503"), (200, 0.01, "lost: not back after 0 s")],
)
async def test_one_that_does_not_come_back_is_lost(status: int, patience: float, seen: str) -> None:
    canary = _canary(lambda _: httpx.Response(status), _Outcomes(), patience)

    assert await _fly(canary) == (0, 1, (False, seen))


async def test_it_is_lost_where_nobody_listens() -> None:
    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("", request=request)

    assert await _fly(_canary(refuse, _Outcomes())) == (0, 1, (False, "lost: ingest does not answer (ConnectError)"))


def test_its_pages_are_reserved_and_reach_every_partition() -> None:
    pages = pages_of(8)

    assert all(map(is_canary, pages))
    assert sorted(partition_of(page_id.encode(), 8) for page_id in pages) == list(range(8))
