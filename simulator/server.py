"""The fake Graph as a server inside a running event loop, which posts its echo webhooks."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

from runtime.admin import serve
from runtime.bounded_http import BoundedHttp
from simulator import app_setup
from simulator.graph import Clock, create_graph
from simulator.poster import Poster
from simulator.world import GraphConfig, World

# Calls that wait in an injected timeout would delay the end for longer.
_GRACE = timedelta(seconds=1)


@asynccontextmanager
async def serve_graph(
    config: GraphConfig, *, seed: int, clock: Clock, port: int, host: str = "127.0.0.1", webhook: Poster | None = None
) -> AsyncIterator[int]:
    """Serve and yield the port, also for port 0; raises `OSError` when it is taken.

    With `webhook`, the app is subscribed there, and each effect's echo and receipts are posted there in order. `seed`
    decides ids and faults, so two runs on one log need two seeds.
    """
    bodies: asyncio.Queue[bytes] = asyncio.Queue()
    world = World(config, random.Random(seed), bodies.put_nowait if webhook is not None else _drop)
    if webhook is not None:
        app_setup.subscribe(world, webhook.url)
    async with serve(create_graph(world, clock), host, port, grace=_GRACE, http=BoundedHttp) as bound:
        posting = asyncio.create_task(_post_all(bodies, webhook)) if webhook is not None else None
        try:
            yield bound
        finally:
            if posting is not None:
                posting.cancel()
                await asyncio.wait([posting])


def _drop(_body: bytes) -> None:
    """No webhook is subscribed."""


async def _post_all(bodies: asyncio.Queue[bytes], webhook: Poster) -> None:
    while True:
        await webhook.post(await bodies.get())
