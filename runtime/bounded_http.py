"""HTTP connections with a deadline, and limits on their number and headers, which uvicorn lacks."""

import asyncio
import ipaddress
import re
from collections import Counter, deque
from collections.abc import Callable
from functools import cached_property
from heapq import nsmallest
from itertools import chain
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

# This module uses private parts of it.
PINS = {"uvicorn": "0.54.0"}
# One renter has all addresses of an IPv6 network.
_IPV6_NETWORK = 64
# Request line and headers; Meta's are under 1 KiB, and proxies add some.
MAX_HEAD = 64 * 1024

# https://www.rfc-editor.org/rfc/rfc3986#section-3.2.2, a port behind it
_HOST = re.compile(rb"(?:[\w.~!$&'()*+,;=%-]*|\[[\w.:]+\])(?::\d*)?")
_NOWHERE: deque[tuple[bytes, bytes]] = deque(maxlen=0)

_TOO_MANY = (
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: 20\r\n"
    b"retry-after: 1\r\nconnection: close\r\n\r\ntoo_many_connections"
)


class _RefusedHead(Exception):
    """uvicorn answers 400 to any exception of a parser callback, and closes the connection."""


class BoundedHttp(HttpToolsProtocol):
    """Closes a connection on which a request, headers and body, takes longer than `receive_within` seconds to arrive.

    A silent or dripping connection, and one whose client does not read its answers, is closed as well. A kept-alive
    connection may be idle for the server's `keep_alive`. With `max_connections` open, a new connection replaces one
    that waits for its client: the longest idle connection of the peer with the most; if none is idle, one whose request
    has been arriving for more than `slow_after` seconds, or whose peer has more than half of all. The new connection is
    answered 503 only where every other one is being answered.

    400 is the answer to a head of more than `MAX_HEAD` bytes, to CONNECT, whose body would be read as a request, to a
    Transfer-Encoding other than chunked, and to a missing, duplicate or invalid Host. An upgrade to another protocol is
    ignored, and trailers are left out. A client that has closed its side after a request is still answered. For each
    refusal, `on_refusal` gets `malformed`, `too_slow`, `evicted` or `no_room`.
    """

    # Meta gives a delivery 5 seconds in all, so a slower client is not Meta.
    receive_within = 5.0
    # Under the 1024 open files that a process may have by default.
    max_connections = 900
    # A request that is still arriving after so many seconds may lose its connection to a new one.
    slow_after = 1.0
    # Several at once, so that a flood of new connections does not search for each.
    closed_at_once = 16

    def __init__(self, *arguments: Any, on_refusal: Callable[[str], None] = lambda _: None, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._on_refusal = on_refusal
        self._began = False
        self._receiving = False
        self._in_head = False
        self._offered_by = b""
        self._heads = 0
        self._arrived = 0
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self.max_connections and not self._make_room():
            self._on_refusal("no_room")
            transport.write(_TOO_MANY)
            transport.close()
        else:
            self._set_deadline()

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        before = self._heads if self._in_head else None
        self._unset_keepalive_if_required()
        if not self._parse(data):
            self.send_400_response("Invalid HTTP request received.")
        if self.transport.is_closing():
            return
        # The parser shows a header only at its end.
        if before == self._heads and self._in_head:
            self._arrived += len(data)
            if self._arrived > MAX_HEAD:
                self.send_400_response("The headers are too large.")
                return
        if self._receiving or not self._began or self.cycle.response_complete:
            self._set_deadline()
        else:
            self._lift_deadline()

    def _parse(self, data: bytes) -> bool:
        """False where the data are not HTTP."""
        while True:
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                # https://www.rfc-editor.org/rfc/rfc9110#section-7.8: a server may ignore it. The parser cannot: it
                # stops behind the head. A new one is given the request once more, without the offer.
                self.parser = httptools.HttpRequestParser(self)
                self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
                data = self._head_without_upgrade() + data[upgrade.args[0] :]
            except httptools.HttpParserError:
                return False
            else:
                return True

    def _head_without_upgrade(self) -> bytes:
        lines = [b"%b %b HTTP/%b" % (self._offered_by, self.url, self.scope["http_version"].encode())]
        for name, value in self.headers:
            if name == b"connection":
                value = b", ".join(option for option in value.split(b",") if option.strip().lower() != b"upgrade")
            if name != b"upgrade":
                lines.append(b"%b: %b" % (name, value))
        self._offered_by = b""
        return b"\r\n".join((*lines, b"", b""))

    def send_400_response(self, msg: str) -> None:
        self._on_refusal("malformed")
        super().send_400_response(msg)

    def connection_lost(self, exc: Exception | None) -> None:
        self._lift_deadline()
        super().connection_lost(exc)

    def eof_received(self) -> bool:  # type: ignore[override]
        """Whether the connection stays open for answers that are still owed."""
        if self._receiving or not self._began or self.cycle.response_complete:
            return False
        self.cycle.keep_alive = False
        return True

    def on_message_begin(self) -> None:
        self._began = self._receiving = self._in_head = True
        self._heads += 1
        self._arrived = 0
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        # https://www.rfc-editor.org/rfc/rfc9110#section-5.5; the parser leaves the blanks behind a value.
        super().on_header(name, value.rstrip(b" \t"))

    def on_headers_complete(self) -> None:
        self._in_head = False
        if self.parser.should_upgrade():
            self._offer()
            return
        self._check_head()
        super().on_headers_complete()
        # Trailers would go behind the headers that the application has.
        self.headers = _NOWHERE  # type: ignore[assignment]

    def on_message_complete(self) -> None:
        if not self._offered_by:
            self._receiving = False
            super().on_message_complete()

    def _offer(self) -> None:
        """Remember the method of a request that offers another protocol. CONNECT's body would be read as a request."""
        self._offered_by = self.parser.get_method()
        if self._offered_by == b"CONNECT":
            raise _RefusedHead
        self.scope["http_version"] = self.parser.get_http_version()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._set_deadline()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._lift_deadline()

    def _check_head(self) -> None:
        # https://www.rfc-editor.org/rfc/rfc9112#section-3.2 and #section-6.1
        hosts = [value for name, value in self.headers if name == b"host"]
        codings = [value.lower() for name, value in self.headers if name == b"transfer-encoding"]
        is_old = self.parser.get_http_version() == "1.0"
        if (
            len(self.url) + sum(map(len, chain.from_iterable(self.headers))) > MAX_HEAD
            or len(hosts) > 1
            or not (hosts or is_old)
            or not all(map(_HOST.fullmatch, hosts))
            or codings not in ([], [b"chunked"])
            or (codings and is_old)
        ):
            raise _RefusedHead

    def _make_room(self) -> bool:
        """Close connections that wait for their client; False where there are none."""
        others = [
            other
            for other in self.connections
            if isinstance(other, BoundedHttp) and other is not self and not other.transport.is_closing()
        ]
        peers = Counter(other.peer for other in others)
        idle = [other for other in others if other.is_idle]
        closed = nsmallest(self.closed_at_once, idle, key=lambda other: (-peers[other.peer], other.waits_since))
        if not closed:
            slow_since = self.loop.time() - self.slow_after
            greedy = {peer for peer, count in peers.items() if 2 * count > len(others) and peer != self.peer}
            slow = [
                other
                for other in others
                if other.is_arriving and (other.peer in greedy or other.waits_since < slow_since)
            ]
            closed = nsmallest(1, slow, key=lambda other: (-peers[other.peer], other.waits_since))
        for connection in closed:
            connection._on_refusal("evicted")
            connection.transport.abort()
        return bool(closed)

    @cached_property
    def peer(self) -> str:
        """The other end: an IPv4 address or an IPv6 network; behind a relay, the relay's."""
        return peer_of(self.client[0]) if self.client else ""

    @property
    def is_idle(self) -> bool:
        """Whether nothing of a request has arrived since the last answer, or since the start."""
        return self.timeout_keep_alive_task is not None or (self._deadline is not None and not self._began)

    @property
    def is_arriving(self) -> bool:
        """Whether a request has not arrived as a whole."""
        return self._receiving and self._deadline is not None

    @property
    def waits_since(self) -> float:
        """The loop's time at which the wait for the next request, or for the rest of one, began."""
        if self.timeout_keep_alive_task is not None:
            return self.timeout_keep_alive_task.when() - self.timeout_keep_alive
        assert self._deadline is not None
        return self._deadline.when() - self.receive_within

    def _set_deadline(self) -> None:
        """The deadline covers the whole request: arriving bytes do not move it."""
        if self._deadline is None:
            self._deadline = self.loop.call_later(self.receive_within, self._give_up)

    def _lift_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _give_up(self) -> None:
        self._on_refusal("too_slow")
        self.transport.abort()


def peer_of(host: str) -> str:
    """An IPv4 address, or the network of an IPv6 one."""
    address = ipaddress.ip_address(host.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    return str(ipaddress.ip_network((address, _IPV6_NETWORK), strict=False))
