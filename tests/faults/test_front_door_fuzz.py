"""Whatever is posted, the front door answers, and never with 500: bodies, headers and paths that nobody meant."""

import asyncio
import json
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.types import ASGIApp

from messenger.signature import sign
from tests.unit.ingest.fakes import SECRET, WEBHOOK_PATH, Ingest

pytestmark = [pytest.mark.faults, pytest.mark.anyio]

BODIES = 100_000
KNOWN = {200, 400, 403, 404, 405, 413, 415}
SEED = 20_261_122

WEBHOOK = json.dumps(
    {
        "object": "page",
        "entry": [
            {
                "id": "1",
                "time": 1,
                "messaging": [
                    {
                        "sender": {"id": "7"},
                        "recipient": {"id": "1"},
                        "timestamp": 1,
                        "message": {"mid": "m", "text": "t"},
                    }
                ],
            }
        ],
    }
).encode()
WORDS = (
    b'{"',
    b'"sender"',
    b'"recipient"',
    b'{"id":"',
    b"[" * 2000,
    b'{"a":' * 1200,
    b"\\ud800",
    b"1e999",
    b"NaN",
    b"\xff",
)
NAMES = (b"x-hub-signature-256", b"X-Hub-Signature", b"content-length", b"content-encoding", b"transfer-encoding", b"")


def mangled(chance: random.Random) -> bytes:
    """A webhook with bytes cut, doubled, swapped or replaced, or bytes that are none."""
    body = bytearray(WEBHOOK)
    for _ in range(chance.randrange(6)):
        at, length = chance.randrange(len(body) + 1), chance.randrange(40)
        match chance.randrange(5):
            case 0:
                del body[at : at + length]
            case 1:
                body[at:at] = body[at : at + length]
            case 2:
                body[at : at + length] = chance.randbytes(length)
            case 3:
                body[at:at] = chance.choice(WORDS)
            case _:
                body[at:] = b""
        if chance.randrange(50) == 0:
            return chance.randbytes(length)
    return bytes(body)


def headers_of(body: bytes, chance: random.Random) -> list[tuple[bytes, bytes]]:
    """The right signature two times of three, else anything under any name; and sometimes a header more."""
    headers = [(b"x-hub-signature-256", sign(body, SECRET).encode())]
    if chance.randrange(3) == 0:
        headers = [(chance.choice(NAMES), chance.randbytes(chance.randrange(90))) for _ in range(chance.randrange(4))]
    if chance.randrange(10) == 0:
        headers.append((chance.choice(NAMES), chance.choice((b"\xb2", b"9" * 5000, b"-1", b"4194305", b"gzip", b""))))
    return headers


async def answer_of(app: ASGIApp, body: bytes, headers: list[tuple[bytes, bytes]], **more: Any) -> int:
    """The status of one request, made of these very bytes."""
    cut = len(body) // 2
    arriving = iter(
        [
            {"type": "http.request", "body": body[:cut], "more_body": True},
            {"type": "http.request", "body": body[cut:], "more_body": False},
        ]
    )
    statuses: list[int] = []

    async def receive() -> Any:
        return next(arriving, {"type": "http.disconnect"})

    async def send(message: Any) -> None:
        statuses.extend([message["status"]] if "status" in message else [])

    scope = {"type": "http", "method": "POST", "path": WEBHOOK_PATH, "query_string": b"", "headers": headers, **more}
    await app(scope, receive, send)
    [status] = statuses
    return status


@asynccontextmanager
async def front_door() -> AsyncIterator[ASGIApp]:
    ingest = Ingest()
    async with ingest.running() as app:
        yield app


async def test_a_hundred_thousand_bodies_and_headers_are_all_answered() -> None:
    chance, statuses = random.Random(SEED), Counter[int]()
    async with front_door() as app:
        for _ in range(BODIES):
            body = mangled(chance)
            async with asyncio.timeout(10):
                statuses[await answer_of(app, body, headers_of(body, chance))] += 1

    assert statuses.total() == BODIES
    assert set(statuses) <= KNOWN
    assert statuses[200] > BODIES / 2
    assert statuses[403] > BODIES / 10


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["entry", "messaging", "sender", "recipient", "id", "message", "x"]), inner)
    ),
    max_leaves=20,
)


@settings(max_examples=1000, deadline=None, suppress_health_check=list(HealthCheck))
@given(body=st.binary(max_size=300) | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_signed_body_is_kept(body: bytes) -> None:
    async def post() -> tuple[int, list[bytes]]:
        ingest = Ingest()
        async with ingest.running() as app:
            status = await answer_of(app, body, [(b"x-hub-signature-256", sign(body, SECRET).encode())])
        return status, [record.value for record in ingest.producer.records]

    assert asyncio.run(post()) == (200, [body])


@settings(max_examples=500, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    method=st.sampled_from(["GET", "PUT", "HEAD", "POST", "X"]), path=st.text(max_size=30), query=st.binary(max_size=60)
)
def test_any_request_line_is_answered(method: str, path: str, query: bytes) -> None:
    async def ask() -> int:
        async with front_door() as app:
            return await answer_of(app, b"", [], method=method, path=f"/{path}", query_string=query)

    assert asyncio.run(ask()) in KNOWN
