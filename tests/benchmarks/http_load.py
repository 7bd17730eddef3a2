"""Closed-loop HTTP load from one process: each connection posts its next request when the last one is answered."""

import asyncio
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from statistics import quantiles
from time import perf_counter

from messenger.signature import sign

ANSWER = b"EVENT_RECEIVED"


@dataclass(frozen=True, slots=True)
class Result:
    """Answers a second, and the median and 99th percentile of their latency in milliseconds."""

    per_second: float
    median: float
    p99: float


def webhook_request(body: bytes, secret: str) -> bytes:
    """The bytes of a POST as Meta sends it."""
    return (
        b"POST /webhooks/messenger HTTP/1.1\r\nHost: ingest\r\nUser-Agent: facebookexternalua\r\n"
        b"Content-Type: application/json\r\nContent-Length: %d\r\nX-Hub-Signature-256: %s\r\n\r\n"
        % (len(body), sign(body, secret).encode())
    ) + body


async def post_all(port: int, requests: Iterable[bytes], connections: int) -> Result:
    """Post each request once. Raises `ConnectionError` when one is not answered with `ANSWER`."""
    waiting, latencies, loop = iter(requests), list[float](), asyncio.get_running_loop()
    ends = [loop.create_future() for _ in range(connections)]
    began = perf_counter()
    for end in ends:
        await loop.create_connection(partial(_Connection, waiting, latencies, end), "127.0.0.1", port)
    await asyncio.gather(*ends)
    seconds = perf_counter() - began
    cuts = quantiles(latencies, n=100)
    return Result(len(latencies) / seconds, cuts[49] * 1000, cuts[98] * 1000)


class _Connection(asyncio.Protocol):
    def __init__(self, requests: Iterator[bytes], latencies: list[float], end: "asyncio.Future[None]") -> None:
        self._requests, self._latencies, self._end = requests, latencies, end
        self._answer = b""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # of TCP, always
        self._transport = transport
        self._next()

    def data_received(self, data: bytes) -> None:
        self._answer += data
        if self._answer.endswith(ANSWER):
            self._latencies.append(perf_counter() - self._sent_at)
            self._next()

    def _next(self) -> None:
        self._answer = b""
        request = next(self._requests, None)
        if request is None:
            self._end.set_result(None)
            self._transport.close()
        else:
            self._sent_at = perf_counter()
            self._transport.write(request)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._end.done():
            self._end.set_exception(ConnectionError(f"closed after {self._answer[:200]!r}"))
