"""One agent of `leadstream streams` as a process of its own: run as `python -m tests.benchmarks.contender split|join`.

`LEADSTREAM_…` variables say where from and where to.
"""

import asyncio
import logging
import os
import sys
from contextlib import suppress
from functools import partial

import faust
import uvloop

from leads.erasures import NOBODY
from leads.pages import Pages
from leads.rules import Policy
from messenger.events import PageId
from runtime.cluster import cluster_of
from runtime.dead_letter import DeadLetterLimit
from runtime.health import Health
from runtime.metrics import Metrics
from runtime.reach import Reach
from runtime.settings import Settings, read_settings
from schemas.codec import BUILT_IN
from schemas.topics import EVENTS, WEBHOOKS
from streams.app import join_batch, run_agent
from streams.engine.store import PartitionStore, join_store
from streams.engine.transport import create_app, is_settled
from streams.guard import Guard
from streams.health import Watch
from streams.join import Joins
from streams.split import Splitting

PAGES = Pages()


def policy_of(page_id: PageId) -> Policy:
    return Policy(PAGES.get(page_id), ())


async def run(stage: str, settings: Settings) -> None:
    app = create_app(
        settings.topic("leadstream"), cluster_of(settings), partitions=settings.partitions, reach=Reach(None)
    )
    metrics, limit, store = Metrics(), DeadLetterLimit(0), join_store(app, settings.partitions)
    health = Health()
    watch = Watch(app, store, metrics, health, dict)
    if stage == "split":
        splitting = Splitting(app, settings, PAGES, NOBODY, limit, metrics, health, BUILT_IN)
        guard = Guard(app, stage, splitting.split, splitting.split_carefully, splitting.refusals, health)
        run_agent(app, stage, settings.topic(WEBHOOKS.name), guard.do, watch)

        @app.task  # type: ignore[untyped-decorator]
        async def report_progress() -> None:
            while not app.should_stop:
                await splitting.report_progress()
                await asyncio.sleep(1)
    else:
        joins = Joins(app, store, settings, PAGES, (), NOBODY, limit, metrics, health, BUILT_IN)
        work, carefully = partial(join_batch, joins), partial(join_batch, joins, carefully=True)
        guard = Guard(app, stage, work, carefully, joins.refusals, health)
        run_agent(app, stage, settings.topic(EVENTS.name), guard.do, watch)
    # Faust's own tasks begin only when it has recovered.
    timing = asyncio.create_task(_say_how_long_recovery_took(app, store))
    await app.start()
    await timing
    await app.wait_until_stopped()


async def _say_how_long_recovery_took(app: faust.App, store: PartitionStore) -> None:
    """From the first key that is read to the moment at which the agents may begin."""
    loop = asyncio.get_running_loop()
    began_at = None
    while not is_settled(app):
        if began_at is None and any(store.parts.values()):
            began_at = loop.time()
        await asyncio.sleep(0.005)
    took = 0.0 if began_at is None else loop.time() - began_at
    print(f"{sum(map(len, store.parts.values()))} {took}", flush=True)  # noqa: T201 - the benchmark reads it


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    with suppress(KeyboardInterrupt):
        uvloop.run(run(sys.argv[1], read_settings(os.environ)))
