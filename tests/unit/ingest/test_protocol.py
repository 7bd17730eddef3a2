"""Connections end when a request takes too long to arrive, and never because an answer does."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from starlette.types import Receive, Scope, Send

from ingest.protocol import BoundedHttp
from runtime.admin import listen, serve_on

pytestmark = pytest.mark.anyio

REQUEST = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbody"


class Impatient(BoundedHttp):
    receive_within = 0.2
    max_connections = 3


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers what it received, after longer than a request may take to arrive."""
    body = b""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        body += message["body"]
        if not message["more_body"]:
            break
    await asyncio.sleep(Impatient.receive_within * 2)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


@asynccontextmanager
async def connections(count: int = 1) -> AsyncIterator[list[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]:
    with listen("127.0.0.1", 0) as listener:
        async with serve_on(listener, app, http=Impatient):
            port = listener.getsockname()[1]
            opened = [await asyncio.open_connection("127.0.0.1", port) for _ in range(count)]
            yield opened
            for _, writer in opened:
                writer.close()


async def drip(writer: asyncio.StreamWriter, data: bytes) -> None:
    for byte in data:
        writer.write(bytes([byte]))
        await asyncio.sleep(0.02)


async def until_closed(reader: asyncio.StreamReader) -> bytes:
    async with asyncio.timeout(5):
        try:
            return await reader.read()
        except ConnectionResetError:
            return b""


@pytest.mark.parametrize(
    "said",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(REQUEST[:30], id="half of the headers"),
        pytest.param(REQUEST[:-1], id="a body that lacks a byte"),
        pytest.param(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbo", id="half a chunk"),
    ],
)
async def test_a_request_that_does_not_arrive_ends_its_connection(said: bytes) -> None:
    async with connections() as [(reader, writer)]:
        writer.write(said)

        assert await until_closed(reader) == b""


@pytest.mark.parametrize("said", [REQUEST * 9, b"\r\n" * 100], ids=["a request", "empty lines"])
async def test_drops_now_and_then_do_not_keep_a_connection_open(said: bytes) -> None:
    async with connections() as [(reader, writer)]:
        dripping = asyncio.create_task(drip(writer, said))

        assert await until_closed(reader) == b""
        dripping.cancel()
        await asyncio.wait([dripping])


async def test_an_answer_may_take_longer_and_the_connection_is_used_again() -> None:
    async with connections() as [(reader, writer)]:
        for _ in range(2):
            writer.write(REQUEST)
            async with asyncio.timeout(5):
                assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
                assert await reader.readexactly(4) == b"body"


async def test_one_connection_too_many_is_told_to_come_later() -> None:
    async with connections(Impatient.max_connections + 1) as opened:
        answer = await until_closed(opened[-1][0])

        assert answer.startswith(b"HTTP/1.1 503")
        assert b"retry-after: 1" in answer
        opened[0][1].write(REQUEST)
        assert (await opened[0][0].readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
