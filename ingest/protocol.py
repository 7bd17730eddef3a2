"""HTTP connections that have a deadline and a limit to their number; uvicorn's have neither."""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

# Meta gives a delivery 5 seconds in all, so that who needs longer to send one is not Meta.
RECEIVE_WITHIN = 5.0
# Under the 1024 open files that a process may have where nobody has raised it.
MAX_CONNECTIONS = 900

_TOO_MANY = (
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: 20\r\n"
    b"retry-after: 1\r\nconnection: close\r\n\r\ntoo_many_connections"
)


class BoundedHttp(HttpToolsProtocol):
    """Closes a connection on which a request, headers and body, takes longer than `receive_within` seconds to arrive.

    A connection that says nothing, that drips, or that does not read its answers is closed as well; one that is kept
    alive may be idle as long as uvicorn allows, which is 5 seconds too. Beyond `max_connections` a new one is
    answered 503.
    """

    receive_within = RECEIVE_WITHIN
    max_connections = MAX_CONNECTIONS

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._began = False
        self._receiving = False
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
        super().data_received(data)
        if self._receiving or not self._began or self.cycle.response_complete:
            self._set_deadline()
        else:
            self._lift_deadline()

    def connection_lost(self, exc: Exception | None) -> None:
        self._lift_deadline()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        self._began = self._receiving = True
        super().on_message_begin()

    def on_message_complete(self) -> None:
        self._receiving = False
        super().on_message_complete()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._set_deadline()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._lift_deadline()

    def _set_deadline(self) -> None:
        """The deadline is of the whole request: what arrives does not move it."""
        if self._deadline is None:
            self._deadline = self.loop.call_later(self.receive_within, self.transport.abort)

    def _lift_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
