"""One way of splitting or joining, as a process of its own: run as `python -m tests.benchmarks.contender NAME STAGE`.

All of them parse, decode, fold and encode with our functions; they differ in what carries the records. `LEADSTREAM_…`
variables say where from and where to.
"""

import asyncio
import logging
import os
import sys
import tempfile
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from typing import Any

import faust
import uvloop

from leads.erasures import NOBODY
from leads.facts import Progress
from leads.join import advance
from leads.pages import Pages
from leads.person import Person
from leads.records import Lead
from leads.rules import Policy
from messenger.events import PageId, PlatformEvent
from runtime import kafka
from runtime.cluster import cluster_of
from runtime.dead_letter import DeadLetterLimit
from runtime.health import Health
from runtime.metrics import Metrics
from runtime.reach import Reach
from runtime.settings import Settings, read_settings
from schemas.codec import BUILT_IN, event_codec, lead_codec
from schemas.state import person_codec
from schemas.topics import EVENTS, JOIN_STATE, LEADS, WEBHOOKS
from streams.app import join_batch, run_agent
from streams.engine.store import PartitionStore, join_store
from streams.engine.transport import create_app, is_settled
from streams.guard import Guard
from streams.health import Watch
from streams.join import Batch, Joins, PartitionJoin
from streams.records import Outgoing, event_key
from streams.split import Splitting, split

PAGES = Pages()
_EVENTS, _LEADS, _PEOPLE = event_codec(), lead_codec(), person_codec()


def policy_of(page_id: PageId) -> Policy:
    return Policy(PAGES.get(page_id), ())


async def ours(stage: str, settings: Settings) -> None:
    """The application of `leadstream streams`, with one of its agents."""
    app = create_app(
        settings.topic("leadstream"), cluster_of(settings), partitions=settings.partitions, reach=Reach(None)
    )
    metrics, limit, store = Metrics(), DeadLetterLimit(0), join_store(app, settings.partitions)
    health = Health()
    watch = Watch(app, store, metrics, health, dict, dict)
    if stage == "split":
        splitting = Splitting(app, settings, PAGES, NOBODY, limit, metrics, health, BUILT_IN)
        guard = Guard(app, stage, splitting.split, splitting.split_carefully, splitting.refusals, health)
        run_agent(app, stage, settings.topic(WEBHOOKS.name), guard.do, watch)

        @app.task  # type: ignore[untyped-decorator]
        async def report_progress() -> None:
            while not app.should_stop:
                await splitting.report_progress()
                await asyncio.sleep(0.025)
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


async def plain(stage: str, settings: Settings) -> None:
    """A loop of aiokafka alone: consume, work, produce; flush and commit once a second.

    Its state is as durable as its outputs: it goes to the changelog, but is not read back at a start.
    """
    work = _split_all(settings) if stage == "split" else _join_all(settings)
    source = settings.topic(WEBHOOKS.name if stage == "split" else EVENTS.name)
    group = settings.topic("plain")
    consumer = kafka.consumer(cluster_of(settings), source, group=group, client_id=group)
    producer = kafka.producer(cluster_of(settings), client_id=group, linger_ms=5)
    await consumer.start()
    await producer.start()
    loop = asyncio.get_running_loop()
    committed_at = loop.time()
    while True:
        for tp, records in (await consumer.getmany(timeout_ms=100)).items():
            for topic, key, value, headers, partition in work(tp.partition, records):
                await producer.send(topic, value, key=key, headers=headers, partition=partition)
        if loop.time() - committed_at > 1:
            await producer.flush()
            await consumer.commit()
            committed_at = loop.time()


def _split_all(settings: Settings) -> Callable[[int, Sequence[Any]], list[Outgoing]]:
    target = settings.topic(EVENTS.name)

    def work(_partition: int, records: Sequence[Any]) -> list[Outgoing]:
        return [
            Outgoing(target, event_key(event), _EVENTS.encode(event)) for event in split(records, PAGES.aliases).events
        ]

    return work


def _join_all(settings: Settings) -> Callable[[int, Sequence[Any]], list[Outgoing]]:
    stored: dict[int, dict[bytes, bytes]] = {number: {} for number in range(settings.partitions)}
    joins = {number: PartitionJoin(part, policy_of, settings) for number, part in stored.items()}
    changelog = settings.topic(JOIN_STATE.name)

    def work(partition: int, records: Sequence[Any]) -> list[Outgoing]:
        batch = Batch(joins[partition])
        outgoing = batch.encode(batch.advance(batch.order(batch.decode(records))))
        changes = batch.take_changes()
        stored[partition].update({key: value for key, value in changes if value is not None})
        return [*outgoing, *(Outgoing(changelog, key, value, None, partition) for key, value in changes)]

    return work


@dataclass(frozen=True, slots=True)
class _FaustRecord:
    """A message of stock Faust in the shape of a consumed record."""

    topic: str
    partition: int
    offset: int
    key: bytes
    value: bytes
    timestamp: int
    headers: Sequence[tuple[str, bytes]] = ()


async def stock(stage: str, settings: Settings) -> None:
    """Faust as it comes, one event at a time, with the settings that favour it most."""
    app = faust.App(
        settings.topic("stock"),
        broker=f"kafka://{settings.broker}",
        store="memory://",
        autodiscover=False,
        web_enabled=False,
        topic_partitions=settings.partitions,
        topic_disable_leader=True,
        table_standby_replicas=0,
        broker_commit_interval=1.0,
        producer_linger=0.005,
        producer_max_batch_size=256 * 1024,
        producer_compression_type="lz4",
        stream_buffer_maxsize=65536,
        worker_redirect_stdouts=False,
        datadir=tempfile.mkdtemp(prefix="faust-"),
    )
    raw = {"key_type": bytes, "value_type": bytes, "key_serializer": "raw", "value_serializer": "raw"}
    source, target = (WEBHOOKS, EVENTS) if stage == "split" else (EVENTS, LEADS)
    output = app.topic(settings.topic(target.name), **raw)
    people = app.Table("join", partitions=settings.partitions, schema=faust.Schema(**raw))

    @app.agent(app.topic(settings.topic(source.name), **raw))  # type: ignore[untyped-decorator]
    async def work(stream: Any) -> None:
        async for event in stream.events():
            message = event.message
            if stage == "split":
                record = _FaustRecord(
                    message.topic, message.partition, message.offset, event.key, event.value,
                    int(message.timestamp * 1000),
                )  # fmt: skip
                for published in split([record], PAGES.aliases).events:
                    await output.send(key=event_key(published), value=_EVENTS.encode(published))
            elif event.key is not None:
                people[event.key], leads = _join_one(people.get(event.key), _EVENTS.decode(event.value))
                for lead in leads:
                    await output.send(key=lead.lead_id.encode(), value=_LEADS.encode(lead))

    await app.start()
    await app.wait_until_stopped()


def quix(stage: str, settings: Settings) -> None:
    """Quix Streams, which stands on librdkafka and keeps its state in RocksDB."""
    app = import_module("quixstreams").Application(
        broker_address=str(settings.broker),
        consumer_group=settings.topic("quix"),
        auto_offset_reset="earliest",
        commit_interval=1.0,
        loglevel="WARNING",
        state_dir=tempfile.mkdtemp(prefix="quix-"),
        producer_extra_config={"linger.ms": 5, "compression.type": "lz4", "acks": "all", "enable.idempotence": True},
    )
    source, target = (WEBHOOKS, EVENTS) if stage == "split" else (EVENTS, LEADS)
    raw = {"key_serializer": "bytes", "value_serializer": "bytes"}
    raw |= {"key_deserializer": "bytes", "value_deserializer": "bytes"}
    output = app.topic(settings.topic(target.name), **raw)
    stream = app.dataframe(app.topic(settings.topic(source.name), **raw))
    if stage == "split":

        def split_one(value: bytes, key: bytes, timestamp: int, headers: Any) -> list[bytes]:
            record = _FaustRecord(source.name, 0, 0, key, value, timestamp)
            return [_EVENTS.encode(event) for event in split([record], PAGES.aliases).events]

        stream = stream.apply(split_one, expand=True, metadata=True)
    else:

        def join_one(event: PlatformEvent, state: Any) -> list[bytes]:
            person, leads = _join_one(state.get_bytes("person"), event)
            state.set_bytes("person", person)
            return [_LEADS.encode(lead) for lead in leads]

        stream = stream.apply(_EVENTS.decode)
        stream = stream.filter(lambda event: not isinstance(event, Progress))
        stream = stream.apply(join_one, stateful=True, expand=True)
    stream.to_topic(output)
    app.run()


def _join_one(stored: bytes | None, event: Any) -> tuple[bytes, list[Lead]]:
    """The rules alone: in the order of the log, not of receipt, and no lead ever closes by itself."""
    person = (
        _PEOPLE.decode(stored)
        if stored
        else Person(page_id=event.page_id, psid=event.psid, touched_at=event.received_at)
    )
    step = advance(person, event, policy_of(event.page_id))
    return _PEOPLE.encode(step.person), [output for output in step.outputs if isinstance(output, Lead)]


_ON_A_LOOP: dict[str, Callable[[str, Settings], Coroutine[Any, Any, None]]] = {
    "ours": ours, "plain": plain, "stock": stock
}  # fmt: skip


def main() -> None:
    name, stage = sys.argv[1:]
    logging.basicConfig(level=logging.WARNING)
    settings = read_settings(os.environ)
    if name == "quix":
        quix(stage, settings)
    else:
        with suppress(KeyboardInterrupt):
            uvloop.run(_ON_A_LOOP[name](stage, settings))


if __name__ == "__main__":
    main()
