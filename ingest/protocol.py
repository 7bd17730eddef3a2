"""HTTP connections that have a deadline, and limits to their number and their headers; uvicorn's have none."""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

# Meta gives a delivery 5 seconds in all, so that who needs longer to send one is not Meta.
RECEIVE_WITHIN = 5.0
# Under the 1024 open files that a process may have where nobody has raised it.
MAX_CONNECTIONS = 900
# Request line and headers; Meta's are under 1 KiB, and proxies add some.
MAX_HEAD = 64 * 1024

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
    answered 503. A head of more than `MAX_HEAD` bytes is answered 400, and so is an upgrade to another protocol, behind
    which the parser reads no body. Trailers are no headers, and are left out.
    """

    receive_within = RECEIVE_WITHIN
    max_connections = MAX_CONNECTIONS

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._began = False
        self._receiving = False
        self._in_head = False
        self._heads = 0
        self._head_bytes = 0
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

    def on_message_begin(self) -> None:
        self._began = self._receiving = self._in_head = True
        self._heads += 1
        self._head_bytes = self._arrived = 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_head:
            self._count(len(name) + len(value))
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._in_head = False
        if self.parser.should_upgrade():
            raise _RefusedHead
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._receiving = False
        super().on_message_complete()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._set_deadline()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._lift_deadline()

    def _count(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > MAX_HEAD:
            raise _RefusedHead

    def _set_deadline(self) -> None:
        """The deadline is of the whole request: what arrives does not move it."""
        if self._deadline is None:
            self._deadline = self.loop.call_later(self.receive_within, self.transport.abort)

    def _lift_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
