"""The worker that the fault tests torment: it copies or folds a topic, on our transport or on stock Faust.

Run as `python -m tests.faults.worker`; the arguments are the fields of `Job`.
"""

import argparse
import asyncio
import logging
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, NamedTuple
from zlib import crc32

import faust
import uvloop
from aiokafka import ConsumerRecord
from aiokafka.protocol.produce import ProduceRequest

from runtime.batches import Outgoing
from runtime.cluster import Cluster
from runtime.reach import Reach
from streams.engine.store import PartitionStore, join_store
from streams.engine.transport import batch_topic, create_app, producer_of


@dataclass(frozen=True, slots=True)
class Job:
    """What a worker does; `poison` is the value at which its agent raises, as a bug would.

    `changelog_delay` is how many seconds each write to the changelog takes longer, as with a slow leader. After the
    output of the value `dawdle_at` the agent waits for three seconds before it writes its state.
    """

    broker: str
    app_id: str
    source: str
    target: str
    work: str = "fold"
    transport: str = "ours"
    partitions: int = 2
    poison: str = ""
    changelog_delay: float = 0.0
    dawdle_at: str = ""
    session_timeout: float = 6.0
    delivery_timeout: float = 5.0


class Folded(NamedTuple):
    """The state of a key: the offset up to which it counts, how many values it has seen, and what they were."""

    mark: int
    seen: int
    digest: int


def fold(state: Folded, offset: int, value: bytes) -> Folded:
    return Folded(offset, state.seen + 1, crc32(value, state.digest))


def encode(state: Folded) -> bytes:
    return b"%d:%d:%d" % state


def decode(value: bytes | None) -> Folded:
    return Folded(*map(int, value.split(b":"))) if value else Folded(-1, 0, 0)


def fold_batch(
    records: list[ConsumerRecord], part: Mapping[str, bytes], target: str
) -> tuple[list[Outgoing], dict[bytes, bytes]]:
    """One output for each record that is past its key's mark, and the new state of the keys."""
    outputs: list[Outgoing] = []
    changed: dict[bytes, bytes] = {}
    for record in records:
        state = decode(changed.get(record.key) or part.get(record.key.decode()))
        if record.offset > state.mark:
            changed[record.key] = encode(fold(state, record.offset, record.value))
            outputs.append((target, record.key, changed[record.key], None, record.partition))
    return outputs, changed


def build(job: Job) -> faust.App:
    if job.transport == "stock":
        return _stock_app(job)
    app = create_app(
        job.app_id,
        Cluster(job.broker),
        partitions=job.partitions,
        reach=Reach(None),
        session_timeout=job.session_timeout,
        delivery_timeout=job.delivery_timeout,
    )
    source = batch_topic(app, job.source)
    store = join_store(app, job.partitions) if job.work == "fold" else None

    @app.agent(source)  # type: ignore[untyped-decorator]
    async def work(stream: Any) -> None:
        _slow_changelog_down(app, job)
        async for event in stream.events():
            for record in event.value:
                _raise_on_poison(job, record.value)
            if store is None:
                await producer_of(app).send_all([(job.target, r.key, r.value, None, r.partition) for r in event.value])
            else:
                await _fold_into(app, store, event, job)

    return app


async def _fold_into(app: faust.App, store: PartitionStore, event: Any, job: Job) -> None:
    partition = event.message.partition
    outputs, changed = fold_batch(event.value, store.parts[partition], job.target)
    await producer_of(app).send_all(outputs)
    if event.value[-1].value == job.dawdle_at.encode():
        await asyncio.sleep(3)
    await producer_of(app).send_all(
        [(store.changelog_topic_name, key, value, None, partition) for key, value in changed.items()]
    )
    for key, value in changed.items():
        store.put(partition, key.decode(), value)


def _stock_app(job: Job) -> faust.App:
    """Faust as it comes, with the settings that favour it most."""
    app = faust.App(
        job.app_id,
        broker=f"kafka://{job.broker}",
        store="memory://",
        autodiscover=False,
        web_enabled=False,
        topic_partitions=job.partitions,
        topic_allow_declare=False,
        topic_disable_leader=True,
        table_standby_replicas=0,
        broker_commit_interval=0.5,
        broker_session_timeout=job.session_timeout,
        broker_heartbeat_interval=job.session_timeout / 4,
        producer_request_timeout=job.delivery_timeout,
        worker_redirect_stdouts=False,
        datadir=tempfile.mkdtemp(prefix="faust-"),
    )
    raw = {"key_type": bytes, "value_type": bytes, "key_serializer": "raw", "value_serializer": "raw"}
    source, target = app.topic(job.source, **raw), app.topic(job.target, **raw)
    table = app.Table("join", partitions=job.partitions, default=int, key_type=bytes) if job.work == "fold" else None

    @app.agent(source)  # type: ignore[untyped-decorator]
    async def work(stream: Any) -> None:
        _slow_changelog_down(app, job)
        async for event in stream.events():
            _raise_on_poison(job, event.value)
            if table is None:
                await target.send(key=event.key, value=event.value)
            else:
                table[event.key] += 1

    return app


def _raise_on_poison(job: Job, value: bytes) -> None:
    if job.poison and value == job.poison.encode():
        raise ArithmeticError("the injected bug")


def _slow_changelog_down(app: faust.App, job: Job) -> None:
    client = app.producer._producer.client
    ask = client.send

    async def ask_slowly(node_id: int, request: Any, **options: Any) -> Any:
        if isinstance(request, ProduceRequest) and any(topic.endswith("-changelog") for topic, _ in request._topics):
            await asyncio.sleep(job.changelog_delay)
        return await ask(node_id, request, **options)

    client.send = ask_slowly


def main() -> None:
    parser = argparse.ArgumentParser()
    for field in fields(Job):
        parser.add_argument(f"--{field.name}", type=field.type, required=True)
    job = Job(**vars(parser.parse_args()))
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    faust.Worker(build(job), loglevel=logging.INFO).execute_from_commandline()


if __name__ == "__main__":
    main()
