"""The same without async: an event loop in a thread keeps the connection alive while the caller works."""

import asyncio
import threading
from collections.abc import Coroutine, Mapping
from datetime import datetime
from typing import Any, Self, TypeVar

from leads.records import LeadStage, SendFollowUp
from leadstream.errors import ClientError
from leadstream.reading import AsyncLeads, LeadRecord
from leadstream.writing import AsyncWriter

T = TypeVar("T")


class _LoopThread:
    """An event loop in a thread of its own, from `start` to `end`."""

    _loop: asyncio.AbstractEventLoop | None = None

    def start(self) -> None:
        is_running = threading.Event()
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._serve(is_running)), name="leadstream-client", daemon=True
        )
        self._thread.start()
        is_running.wait()

    async def _serve(self, is_running: threading.Event) -> None:
        self._loop, self._is_over = asyncio.get_running_loop(), asyncio.Event()
        is_running.set()
        await self._is_over.wait()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """The result of a coroutine. Ctrl-C cancels it, and is raised here."""
        if self._loop is None:
            coroutine.close()
            raise ClientError("not open: read and write in a `with` block")
        future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            return future.result()
        finally:
            future.cancel()

    def end(self) -> None:
        """Wait until what was cancelled has ended too."""
        loop, self._loop = self._loop, None
        assert loop is not None, "it was started"
        loop.call_soon_threadsafe(self._is_over.set)
        self._thread.join()


class _Plain:
    """The block of an async client, without async."""

    def __init__(self, client: AsyncLeads | AsyncWriter) -> None:
        self._client, self._thread = client, _LoopThread()

    def __enter__(self) -> Self:
        self._thread.start()
        try:
            self._thread.run(self._client.__aenter__())
        except BaseException:
            self._thread.end()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._thread.run(self._client.__aexit__())
        finally:
            self._thread.end()


class Leads(_Plain):
    """`AsyncLeads` without async: `with Leads() as leads`, then `for record in leads`. For one thread at a time.

    It keeps its partitions of the group while a record is worked on, for up to five minutes. Ctrl-C is raised also
    while the next record is waited for; the block then commits what is processed.
    """

    def __init__(
        self,
        *,
        group: str | None = None,
        since: datetime | None = None,
        follow: bool = True,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self._leads = AsyncLeads(group=group, since=since, follow=follow, environ=environ)
        super().__init__(self._leads)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> LeadRecord:
        try:
            return self._thread.run(self._leads.__anext__())
        except StopAsyncIteration:
            raise StopIteration from None

    def commit(self) -> None:
        """Commit every record so far, the one in hand too. Without a group it does nothing."""
        self._thread.run(self._leads.commit())


class Writer(_Plain):
    """`AsyncWriter` without async: `with Writer() as writer`, then `writer.send(…)`. For one thread at a time."""

    def __init__(self, *, timeout: float = 30.0, environ: Mapping[str, str] | None = None) -> None:
        self._writer = AsyncWriter(timeout=timeout, environ=environ)
        super().__init__(self._writer)

    def send(self, *records: SendFollowUp | LeadStage) -> None:
        """Write the records; returns when all in-sync replicas have all of them. Raises as `AsyncWriter.send` does."""
        self._thread.run(self._writer.send(*records))
