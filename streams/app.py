"""The streams application: raw deliveries → events → leads and commands, with the steps of each in their order."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from datetime import timedelta
from functools import partial
from typing import Any

import faust
from faust.types import TP

from leads.pages import Pages
from leads.rules import Rule
from runtime.clock import now
from runtime.cluster import Cluster
from runtime.dead_letter import DEAD_LETTERS_A_MINUTE, DeadLetterLimit
from runtime.health import Health
from runtime.losses import NOTHING, Accepted, Losses
from runtime.metrics import Metrics
from runtime.reach import Reach
from runtime.settings import Settings
from runtime.suspect import Place
from runtime.tracing import OFF, Tracing, batch_span
from schemas.codec import BUILT_IN, Ids
from schemas.topics import ERASURES, EVENTS, JOIN_STATE, WEBHOOKS
from streams.engine.store import join_store
from streams.engine.transport import batch_topic, create_app
from streams.erasure_gate import Register
from streams.guard import Guard
from streams.health import Watch
from streams.join import Batch, Joins
from streams.records import Record
from streams.split import Splitting

Work = Callable[[TP, Sequence[Record]], Awaitable[None]]

# How often the splitter reports its progress, and how often health and lag are worked out.
_REPORT = timedelta(seconds=1)
_LOOK = timedelta(milliseconds=500)


def build_app(
    settings: Settings,
    broker: Cluster,
    pages: Pages,
    rules: Sequence[Rule],
    metrics: Metrics,
    health: Health,
    ids: Ids = BUILT_IN,
    *,
    dead_letters_a_minute: int = DEAD_LETTERS_A_MINUTE,
    skips: Collection[Place] = (),
    accepted: Accepted = NOTHING,
    tracing: Tracing = OFF,
) -> faust.App:
    """The Faust application: two agents, the splitter's progress and the worker's health, on our transport.

    Records at `skips` go to their dead-letter topics unread. `accepted` are losses that do not end the worker.
    """
    reach = Reach(Losses("leadstream streams", metrics, accepted), offset_memory(settings))
    app = create_app(settings.topic("leadstream"), broker, partitions=settings.partitions, reach=reach, tracing=tracing)
    store = join_store(app, settings.partitions)
    limit = DeadLetterLimit(dead_letters_a_minute)
    register = Register(broker, settings.topic(ERASURES.name))
    splitting = Splitting(app, settings, pages, register.erasures, limit, metrics, health, ids)
    joins = Joins(app, store, settings, pages, tuple(rules), register.erasures, limit, metrics, health, ids)
    guarded_split = Guard(app, "split", splitting.split, splitting.split_carefully, splitting.refusals, health, skips)
    work, carefully = partial(join_batch, joins), partial(join_batch, joins, carefully=True)
    guarded_join = Guard(app, "join", work, carefully, joins.refusals, health, skips)
    watch = Watch(app, store, metrics, health, lambda: splitting.refused)
    run_agent(app, "split", settings.topic(WEBHOOKS.name), register.before(guarded_split.do), watch)
    run_agent(app, "join", settings.topic(EVENTS.name), register.before(guarded_join.do), watch)

    @app.task  # type: ignore[untyped-decorator] # Faust is untyped to us
    async def report_progress() -> None:
        while not app.should_stop:
            await splitting.report_progress()
            await asyncio.sleep(_REPORT.total_seconds())

    @app.task  # type: ignore[untyped-decorator]
    async def follow_erasures() -> None:
        await register.follow(app)

    @app.task  # type: ignore[untyped-decorator]
    async def look_after() -> None:
        while not app.should_stop:
            watch.look(now())
            await asyncio.sleep(_LOOK.total_seconds())

    return app


async def join_batch(joins: Joins, partition: int, records: Sequence[Record], *, carefully: bool = False) -> None:
    """Events → leads and commands. The transport commits the offsets once this returns, and never if it raises."""
    batch = Batch(await joins.of(partition), carefully=carefully)
    events = batch.decode(records)
    turns = batch.order(events)
    outputs = batch.advance(turns)
    outgoing = batch.encode(outputs)
    await joins.publish(outgoing, batch.refused)
    await joins.write_changelog(partition, batch.take_changes())
    joins.count(batch)


def offset_memory(settings: Settings) -> frozenset[str]:
    """The join's state, and the topics of which it remembers offsets."""
    return frozenset(settings.topic(topic.name) for topic in (WEBHOOKS, EVENTS, JOIN_STATE))


def run_agent(app: faust.App, name: str, topic: str, work: Work, watch: Watch) -> None:
    """An agent that does this work on each batch of a topic; the batch is finished when the work returns."""

    @app.agent(batch_topic(app, topic), name=name)  # type: ignore[untyped-decorator]
    async def work_through(stream: Any) -> None:
        async for batch in stream.events():
            with watch.batch(batch.message), batch_span(app.tracing, name, [batch.value]):
                await work(batch.message.tp, batch.value)
