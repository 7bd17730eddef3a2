"""Connections end when a request takes too long to arrive, and never because an answer does."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import ClassVar

import pytest
from starlette.types import Receive, Scope, Send

from runtime.admin import listen, serve_on
from runtime.bounded_http import BoundedHttp, peer_of

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

REQUEST = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbody"


class Impatient(BoundedHttp):
    receive_within = 0.2
    max_connections = 3


class Patient(BoundedHttp):
    """So that only the room is at stake."""

    max_connections = 3
    closed_at_once = 1
    newcomer: ClassVar[str] = ""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.peer = self.newcomer
        super().connection_made(transport)


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


Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@asynccontextmanager
async def connections(count: int = 1) -> AsyncIterator[list[Streams]]:
    async with serving(Impatient, []) as port:
        opened = [await asyncio.open_connection("127.0.0.1", port) for _ in range(count)]
        yield opened
        for _, writer in opened:
            writer.close()


@asynccontextmanager
async def serving(http: type[BoundedHttp], refused: list[str]) -> AsyncIterator[int]:
    with listen("127.0.0.1", 0) as listener:
        async with serve_on(listener, app, http=partial(http, on_refusal=refused.append)):
            yield listener.getsockname()[1]


@dataclass
class Visitors:
    """Clients of one server, and why it refused or closed connections."""

    port: int
    refused: list[str]
    opened: list[Streams] = field(default_factory=list)

    async def come(self, said: bytes = b"", *, peer: str = "somebody") -> Streams:
        """Say something on a new connection, and leave the server the time to read it."""
        Patient.newcomer = peer
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        self.opened.append((reader, writer))
        writer.write(said)
        await asyncio.sleep(0.05)
        return reader, writer

    async def closed(self) -> list[int]:
        """Which of them the server has closed, in the order in which they came."""
        await asyncio.sleep(0.05)
        return [number for number, (reader, _) in enumerate(self.opened) if reader.at_eof() or reader.exception()]


@asynccontextmanager
async def visitors(http: type[BoundedHttp] = Patient) -> AsyncIterator[Visitors]:
    refused: list[str] = []
    async with serving(http, refused) as port:
        visitors = Visitors(port, refused)
        yield visitors
        for _, writer in visitors.opened:
            writer.close()


async def answer_to(streams: Streams) -> bytes:
    async with asyncio.timeout(5):
        head = await streams[0].readuntil(b"\r\n\r\n")
        return head + await streams[0].readexactly(int(head.lower().partition(b"content-length: ")[2].split()[0]))


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


async def test_while_each_connection_is_being_answered_one_more_is_told_to_come_later() -> None:
    async with visitors() as them:
        busy = [await them.come(REQUEST) for _ in range(Patient.max_connections)]

        reader, _ = await them.come()

        answer = await until_closed(reader)
        assert answer.startswith(b"HTTP/1.1 503")
        assert b"retry-after: 1" in answer
        assert [(await answer_to(streams))[:12] for streams in busy] == [b"HTTP/1.1 200"] * 3
        assert them.refused == ["no_room"]


async def test_silent_connections_give_way_to_one_with_a_request() -> None:
    async with visitors() as them:
        for _ in range(Patient.max_connections):
            await them.come()

        assert (await answer_to(await them.come(REQUEST))).startswith(b"HTTP/1.1 200")
        assert set(them.refused) == {"evicted"}


async def test_connections_that_are_kept_alive_give_way_and_one_that_is_answered_does_not() -> None:
    async with visitors() as them:
        for streams in [await them.come(REQUEST), await them.come(REQUEST)]:
            assert (await answer_to(streams)).startswith(b"HTTP/1.1 200")
        busy = await them.come(REQUEST)

        newest = await them.come(REQUEST)

        assert (await answer_to(newest)).startswith(b"HTTP/1.1 200")
        assert (await answer_to(busy)).startswith(b"HTTP/1.1 200")
        assert await them.closed() == [0]


async def test_the_peer_with_the_most_connections_loses_them_first() -> None:
    async with visitors() as them:
        await them.come(peer="meta")
        await them.come(peer="a stranger")
        await them.come(peer="a stranger")

        await them.come(peer="a stranger")
        await them.come(peer="meta")

        assert await them.closed() == [1, 2]


async def test_of_one_peer_the_longest_idle_connection_gives_way() -> None:
    async with visitors() as them:
        first = await them.come()
        await them.come()
        await them.come()
        first[1].write(REQUEST)
        await answer_to(first)

        await them.come()

        assert await them.closed() == [1]


@pytest.mark.parametrize(("peer", "status"), [("meta", b"200"), ("a stranger", b"503")])
async def test_requests_that_arrive_give_way_only_where_a_peer_has_more_than_its_share(
    peer: str, status: bytes
) -> None:
    async with visitors() as them:
        for _ in range(Patient.max_connections):
            await them.come(REQUEST[:-1], peer="a stranger")

        assert (await answer_to(await them.come(REQUEST, peer=peer)))[9:12] == status


async def test_a_request_that_drips_gives_way_to_anybody() -> None:
    class Hasty(Patient):
        slow_after = 0.05

    async with visitors(Hasty) as them:
        for _ in range(Patient.max_connections):
            await them.come(REQUEST[:-1])

        assert (await answer_to(await them.come(REQUEST))).startswith(b"HTTP/1.1 200")
        assert await them.closed() == [0]


@pytest.mark.parametrize(
    ("host", "peer"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3::4", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
    ],
)
def test_a_peer_is_an_ipv4_address_or_an_ipv6_network(host: str, peer: str) -> None:
    assert peer_of(host) == peer
