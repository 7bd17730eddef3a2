"""Server-sent events: a browser hears that a snapshot has changed, and asks for its page again."""

import asyncio
from collections.abc import AsyncIterator

from starlette.requests import Request
from starlette.responses import StreamingResponse

from console.snapshot import Changes

# A proxy or a browser that went away is noticed by this.
_HEARTBEAT = 15.0
# More would keep others from the port.
_MOST = 32


class Live:
    """The stream of changes. `stop` ends every stream, so that the server can end."""

    def __init__(self, changes: Changes) -> None:
        self._changes, self._streams, self._stopped = changes, 0, asyncio.Event()

    def stop(self) -> None:
        self._stopped.set()
        self._changes.note()

    async def __call__(self, request: Request) -> StreamingResponse:
        return StreamingResponse(self._events(request), media_type="text/event-stream")

    async def _events(self, request: Request) -> AsyncIterator[str]:
        if self._streams >= _MOST:
            yield "retry: 60000\n\n"
            return
        self._streams += 1
        try:
            number = self._changes.number
            yield "retry: 3000\n\n"
            while not self._stopped.is_set() and not await request.is_disconnected():
                try:
                    number = await asyncio.wait_for(self._changes.after(number), _HEARTBEAT)
                    yield f"id: {number}\ndata: changed\n\n"
                except TimeoutError:
                    yield ": still here\n\n"
        finally:
            self._streams -= 1
