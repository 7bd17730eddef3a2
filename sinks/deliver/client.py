"""The only I/O of a delivery: a POST to the address that was checked, bounded in time and size."""

import asyncio
import re
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import partial
from ipaddress import ip_address
from typing import Any, Literal
from urllib.parse import urlsplit

import httpcore

from sinks.deliver.addresses import Address, may_be_reached
from sinks.deliver.destination import Destination

CALL_TIMEOUT = timedelta(seconds=15)
MAX_BODY = 1024 * 1024
# More of an answer is not read, and none of it is kept.
_MAX_ANSWER = 64 * 1024
_IDLE_SECONDS = 30.0
_NOT_HTTP = (httpcore.ProtocolError, httpcore.UnsupportedProtocol)
_DIGITS = re.compile(r"\d{1,9}")

CallFault = Literal[
    # The whole call took too long.
    "timeout",
    # Nothing listens there, or the connection broke.
    "connection",
    # The certificate does not hold, or TLS was refused.
    "tls",
    # The name of the host has no address.
    "no_address",
    # The address of the host is one to which nothing is delivered; the details say which.
    "address_refused",
    # The answer is not HTTP.
    "not_http",
]


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP status, or a fault before there was one. `retry_after` is what the other side asked for."""

    status: int | None = None
    fault: CallFault | None = None
    detail: str = ""
    retry_after: timedelta | None = None

    @property
    def is_success(self) -> bool:
        return self.status is not None and 200 <= self.status < 300

    def __str__(self) -> str:
        """A short code, such as `503` or `address_refused: loopback`."""
        if self.status is not None:
            return str(self.status)
        return f"{self.fault}: {self.detail}" if self.detail else str(self.fault)


class AddressRefused(httpcore.ConnectError):
    """The host has an address to which nothing is delivered; the message is the code of the fault."""


Resolve = Callable[[str, int], Awaitable[Iterable[Address]]]


class Resolver:
    """Resolves hosts as the system does, in threads of its own: a name server that hangs holds up nobody else."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(2, "resolve")

    async def __call__(self, host: str, port: int) -> list[Address]:
        """The addresses of a host, the best first. Raises `OSError`."""
        lookup = partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
        found = await asyncio.get_running_loop().run_in_executor(self._threads, lookup)
        # A scope belongs to link-local addresses, which are refused.
        return list(dict.fromkeys(ip_address(str(place[0]).partition("%")[0]) for *_, place in found))


class GuardedBackend(httpcore.AnyIOBackend):
    """Connects to the address that was checked: the name is resolved once, and every address of it must be allowed."""

    def __init__(self, resolve: Resolve, *, allow_private: bool, is_clear: bool) -> None:
        self._resolve, self._allow_private, self._is_clear = resolve, allow_private, is_clear

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's signature
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        try:
            async with asyncio.timeout(timeout):
                addresses = list(await self._resolve(host, port))
        except TimeoutError:
            raise httpcore.ConnectTimeout from None
        except (OSError, UnicodeError):
            raise NoAddress from None
        for address in addresses:
            fault = may_be_reached(address, allow_private=self._allow_private, is_clear=self._is_clear)
            if fault is not None:
                raise AddressRefused(fault)
        last: Exception = NoAddress()
        for address in addresses:
            try:
                return await super().connect_tcp(str(address), port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as fault:
                last = fault
        raise last


class NoAddress(httpcore.ConnectError):
    """The host has no address."""


@dataclass(slots=True)
class _Connections:
    """A pool, and how many calls use it now."""

    pool: httpcore.AsyncConnectionPool
    calls: int = 0


class DeliveryClient:
    """Calls one destination, in at most so many `concurrent` calls.

    It follows no redirect, uses no proxy of the environment, and decodes nothing.
    """

    def __init__(
        self,
        destination: Destination,
        *,
        concurrent: int,
        timeout: timedelta = CALL_TIMEOUT,
        resolve: Resolve | None = None,
    ) -> None:
        self._url, self._seconds, self._concurrent = destination.url, timeout.total_seconds(), concurrent
        self._trust = trust(destination)
        self._guard = GuardedBackend(
            resolve or Resolver(),
            allow_private=destination.allow_private,
            is_clear=urlsplit(destination.url).scheme == "http",
        )
        self._connections = self._no_connections()

    def _no_connections(self) -> "_Connections":
        return _Connections(
            httpcore.AsyncConnectionPool(
                ssl_context=self._trust,
                max_connections=self._concurrent,
                max_keepalive_connections=self._concurrent,
                keepalive_expiry=_IDLE_SECONDS,
                network_backend=self._guard,
            )
        )

    async def post(self, headers: Mapping[str, str], body: bytes, may_leave: Callable[[], bool]) -> Answer:
        """The answer of the destination to one POST, which as a whole may take as long as the timeout.

        `may_leave` is asked once the connection stands, right before the request is written to it: without its consent
        nothing leaves, as if the connection had come too late. The status and its headers are the answer; a fault in
        the rest does not matter.
        """
        answered, held = list[Answer](), self._connections
        held.calls += 1
        try:
            async with asyncio.timeout(self._seconds):
                await self._post(held.pool, headers, body, may_leave, answered)
        except (TimeoutError, asyncio.CancelledError) as fault:
            # A call that is cut off leaves its connection in httpcore's pool for ever, and takes the place of another.
            if self._connections is held:
                self._connections = self._no_connections()
            if isinstance(fault, asyncio.CancelledError):
                raise
            return answered[0] if answered else Answer(fault="timeout")
        except (OSError, httpcore.TimeoutException, httpcore.NetworkError, *_NOT_HTTP) as fault:
            return answered[0] if answered else Answer(fault=_fault_of(fault), detail=_detail_of(fault))
        finally:
            held.calls -= 1
            if held is not self._connections and not held.calls:
                await held.pool.aclose()
        return answered[0]

    async def _post(
        self,
        pool: httpcore.AsyncConnectionPool,
        headers: Mapping[str, str],
        body: bytes,
        may_leave: Callable[[], bool],
        answered: list[Answer],
    ) -> None:
        wire = [(name.encode(), value.encode()) for name, value in headers.items()]
        timeouts = dict.fromkeys(("connect", "read", "write", "pool"), self._seconds)
        options = {"timeout": timeouts, "trace": _asking(may_leave)}
        async with pool.stream("POST", self._url, headers=wire, content=body, extensions=options) as response:
            answered.append(Answer(response.status, retry_after=_retry_after(response.headers)))
            read = 0
            async for chunk in response.aiter_stream():
                read += len(chunk)
                if read > _MAX_ANSWER:
                    break

    async def aclose(self) -> None:
        await self._connections.pool.aclose()


def _asking(may_leave: Callable[[], bool]) -> Callable[[str, object], Awaitable[None]]:
    # https://www.encode.io/httpcore/extensions/#trace
    async def trace(event: str, _details: object) -> None:
        if event == "http11.send_request_headers.started" and not may_leave():
            raise httpcore.ConnectTimeout

    return trace


def _fault_of(fault: Exception) -> CallFault:
    if isinstance(fault, AddressRefused):
        return "address_refused"
    if isinstance(fault, NoAddress):
        return "no_address"
    if isinstance(fault, httpcore.TimeoutException):
        return "timeout"
    if isinstance(fault, _NOT_HTTP):
        return "not_http"
    return "tls" if _is_of_tls(fault) else "connection"


def _is_of_tls(fault: BaseException | None) -> bool:
    while fault is not None and not isinstance(fault, ssl.SSLError):
        fault = fault.__cause__ or fault.__context__
    return fault is not None


def _detail_of(fault: Exception) -> str:
    """The code of the address; the texts of other faults may hold anything."""
    return str(fault) if isinstance(fault, AddressRefused) else ""


def trust(destination: Destination) -> ssl.SSLContext:
    """Verifies certificates and names. Raises `OSError` where the file of the authorities cannot be read."""
    if destination.ca_file is None:
        return httpcore.default_ssl_context()
    return ssl.create_default_context(cafile=str(destination.ca_file))


def _retry_after(headers: Iterable[tuple[bytes, bytes]]) -> timedelta | None:
    """https://www.rfc-editor.org/rfc/rfc9110#section-10.2.3: seconds, or a date, which is compared with its own."""
    values = {name.lower(): value.decode("latin-1").strip() for name, value in headers}
    asked = values.get(b"retry-after", "")
    if _DIGITS.fullmatch(asked):
        return timedelta(seconds=int(asked))
    try:
        until = parsedate_to_datetime(asked)
        sent_at = parsedate_to_datetime(values[b"date"])
    except (ValueError, KeyError, TypeError, OverflowError):
        return None
    return max(_aware(until) - _aware(sent_at), timedelta(0))


def _aware(moment: datetime) -> datetime:
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
