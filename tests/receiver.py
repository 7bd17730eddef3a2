"""An endpoint that receives deliveries, verifies each, and answers as a test says."""

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from tests.standard_webhooks import Forged, verify

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


@dataclass(frozen=True, slots=True)
class Post:
    """One request that was received, whose signature held; `at` is in Unix time."""

    at: float
    target: str
    headers: dict[str, str] = field(repr=False)
    body: bytes = field(repr=False)

    @property
    def webhook_id(self) -> str:
        return self.headers["webhook-id"]


# The status and more header lines.
Reply = tuple[int, str]
Behave = Callable[[Post], Awaitable[Reply]]


async def take_it(_: Post) -> Reply:
    return 200, ""


@dataclass(slots=True)
class Receiver:
    """Notes every request in `posts`; those that were answered with a success also in `taken` and `taken_ids`."""

    secret: str = SECRET
    behave: Behave = take_it
    port: int = 0
    posts: list[Post] = field(default_factory=list)
    taken: list[Post] = field(default_factory=list)
    taken_ids: set[str] = field(default_factory=set)
    forged: list[str] = field(default_factory=list)
    _connections: set[asyncio.StreamWriter] = field(default_factory=set)
    _server: asyncio.Server | None = None

    async def open(self, tls: ssl.SSLContext | None = None) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, ssl=tls, backlog=512)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Refuse connections, and cut those that stand."""
        assert self._server is not None
        self._server.close()
        for connection in list(self._connections):
            connection.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections.add(writer)
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError):
                while await self._exchange(reader, writer):
                    pass
        finally:
            self._connections.discard(writer)
            writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
        body = await reader.readexactly(int(headers["content-length"]))
        post = Post(time.time(), head[0].split(" ")[1], headers, body)
        try:
            verify(self.secret, headers, body, post.at)
        except (Forged, AssertionError, ValueError) as fault:
            self.forged.append(f"{type(fault).__name__}: {fault}")
        self.posts.append(post)
        status, more = await self.behave(post)
        if 200 <= status < 300:
            self.taken.append(post)
            self.taken_ids.add(post.webhook_id)
        writer.write(f"HTTP/1.1 {status} X\r\nContent-Length: 2\r\n{more}\r\nok".encode())
        await writer.drain()
        return True


@asynccontextmanager
async def receiving(behave: Behave = take_it, *, secret: str = SECRET) -> AsyncIterator[Receiver]:
    receiver = Receiver(secret, behave)
    await receiver.open()
    try:
        yield receiver
    finally:
        await receiver.close()
