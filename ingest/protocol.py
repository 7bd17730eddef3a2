"""HTTP connections that have a deadline, and limits to their number and their headers; uvicorn's have none."""

import asyncio
import re
from collections import deque
from itertools import chain
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

# Meta gives a delivery 5 seconds in all, so that who needs longer to send one is not Meta.
RECEIVE_WITHIN = 5.0
# Under the 1024 open files that a process may have where nobody has raised it.
MAX_CONNECTIONS = 900
# Request line and headers; Meta's are under 1 KiB, and proxies add some.
MAX_HEAD = 64 * 1024

# https://www.rfc-editor.org/rfc/rfc3986#section-3.2.2, a port behind it
_HOST = re.compile(rb"(?:[\w.~!$&'()*+,;=%-]*|\[[\w.:]+\])(?::\d*)?")
_NO_HOST = b" "
_NOWHERE: deque[tuple[bytes, bytes]] = deque(maxlen=0)

_TOO_MANY = (
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: 20\r\n"
    b"retry-after: 1\r\nconnection: close\r\n\r\ntoo_many_connections"
)


class _RefusedHead(Exception):
    """uvicorn answers 400 to whatever a callback of its parser raises, and closes the connection."""


class BoundedHttp(HttpToolsProtocol):
    """Closes a connection on which a request, headers and body, takes longer than `receive_within` seconds to arrive.

    A connection that says nothing, that drips, or that does not read its answers is closed as well; one that is kept
    alive may be idle as long as uvicorn allows, which is 5 seconds too. Beyond `max_connections` a new one is
    answered 503. Answered 400 are a head of more than `MAX_HEAD` bytes, an upgrade to another protocol, behind which
    the parser reads no body, a Transfer-Encoding that is more than chunks, and a Host that is missing, doubled or none.
    Trailers are no headers, and are left out. A client that has closed its side after a request is still answered.
    """

    receive_within = RECEIVE_WITHIN
    max_connections = MAX_CONNECTIONS

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._began = False
        self._receiving = False
        self._in_head = False
        self._is_long = False
        self._known_host = _NO_HOST
        self._heads = 0
        self._arrived = 0
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self.max_connections:
            transport.write(_TOO_MANY)
            transport.close()
        else:
            self._set_deadline()

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        before = self._heads if self._in_head else None
        self._is_long = before is not None or len(data) > MAX_HEAD
        super().data_received(data)
        if self.transport.is_closing():
            return
        # A header that has not ended is not shown to us yet.
        if before == self._heads and self._in_head:
            self._arrived += len(data)
            if self._arrived > MAX_HEAD:
                self.send_400_response("The headers are too large.")
                return
        if self._receiving or not self._began or self.cycle.response_complete:
            self._set_deadline()
        else:
            self._lift_deadline()

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

    def on_headers_complete(self) -> None:
        self._in_head = False
        fields = dict(self.headers)
        # Nearly every head is as simple as this, and looked at no further.
        if (
            self._is_long
            or fields.get(b"host") != self._known_host
            or len(fields) < len(self.headers)
            or b"transfer-encoding" in fields
        ):
            self._check_head()
        super().on_headers_complete()
        # Trailers would go behind the headers that the application has.
        self.headers = _NOWHERE  # type: ignore[assignment]

    def _should_upgrade(self) -> bool:
        # uvicorn asks where the parser has found an upgrade.
        raise _RefusedHead

    def on_message_complete(self) -> None:
        self._receiving = False
        super().on_message_complete()

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
        if hosts:
            self._known_host = hosts[0]

    def _set_deadline(self) -> None:
        """The deadline is of the whole request: what arrives does not move it."""
        if self._deadline is None:
            self._deadline = self.loop.call_later(self.receive_within, self.transport.abort)

    def _lift_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
