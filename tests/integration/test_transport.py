"""The transport on a real Kafka: order, commits, the end of the log, failures and the partitions' state."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import faust
import pytest
from aiokafka import AIOKafkaProducer, ConsumerRecord

from runtime.clock import from_millis
from runtime.cluster import Cluster
from runtime.reach import Reach
from streams.engine.producer import DeliveryFailed
from streams.engine.store import PartitionStore, join_store
from streams.engine.transport import (
    Consumer,
    StuckInRebalance,
    batch_topic,
    create_app,
    end_of_log,
    fail_fast,
    is_settled,
    producer_of,
)
from tests.faults.lab import Lab, eventually, lab_on

pytestmark = [pytest.mark.integration, pytest.mark.anyio]

Handle = Callable[[int, list[ConsumerRecord]], Awaitable[None]]


@pytest.fixture
async def lab(kafka_broker: str, topic_prefix: str, tmp_path: Path) -> AsyncIterator[Lab]:
    async with lab_on(kafka_broker, topic_prefix, tmp_path) as lab:
        await lab.create_topics({})
        yield lab


def app_of(lab: Lab, handle: Handle) -> tuple[faust.App, PartitionStore]:
    app = create_app(
        lab.job.app_id, Cluster(lab.job.broker), partitions=lab.job.partitions, reach=Reach(None), session_timeout=6
    )
    store = join_store(app, lab.job.partitions)

    @app.agent(batch_topic(app, lab.job.source))  # type: ignore[untyped-decorator]
    async def work(stream: Any) -> None:
        async for event in stream.events():
            await handle(event.message.partition, event.value)

    return app, store


@asynccontextmanager
async def running(app: faust.App) -> AsyncIterator[faust.App]:
    await app.start()
    try:
        await eventually(lambda: is_settled(app))
        yield app
    finally:
        await app.stop()


async def ignore(partition: int, records: list[ConsumerRecord]) -> None:
    pass


async def test_an_agent_gets_every_record_in_the_order_of_its_partition(lab: Lab) -> None:
    offsets: defaultdict[int, list[int]] = defaultdict(list)

    async def note(partition: int, records: list[ConsumerRecord]) -> None:
        offsets[partition] += [record.offset for record in records]

    await lab.produce(b"%d" % number for number in range(3000))
    app, _ = app_of(lab, note)
    async with running(app):
        await eventually(lab.all_is_committed)

    ends = await lab.ends(lab.job.source)
    assert offsets == {partition: list(range(end)) for partition, end in ends.items()}


async def test_nothing_is_committed_past_a_batch_that_is_not_finished(lab: Lab) -> None:
    may_finish = asyncio.Event()
    held: list[int] = []

    async def hold_the_second(partition: int, records: list[ConsumerRecord]) -> None:
        if any(record.value == b"second" for record in records):
            held.append(records[0].offset)
            await may_finish.wait()

    app, _ = app_of(lab, hold_the_second)
    async with running(app):
        await lab.produce([b"first"], keys=1)
        await eventually(lab.all_is_committed)
        await lab.produce([b"second", b"third"], keys=1)
        await eventually(lambda: bool(held))
        await app.consumer.commit()
        committed_meanwhile = sum((await lab.committed()).values())
        may_finish.set()
        await eventually(lab.all_is_committed)

    assert committed_meanwhile == held[0] == 1


async def test_the_end_of_the_log_is_not_reached_while_a_record_is_unfinished(lab: Lab) -> None:
    may_finish = asyncio.Event()
    held: list[int] = []

    async def hold(partition: int, records: list[ConsumerRecord]) -> None:
        held.append(partition)
        await may_finish.wait()

    app, _ = app_of(lab, hold)
    async with running(app):
        await eventually(lambda: len(ends_of(app)) == 2)
        at_first = ends_of(app)
        await lab.produce([b"late"], keys=1)
        await eventually(lambda: bool(held))
        while_held = ends_of(app)
        may_finish.set()
        await eventually(lambda: len(ends_of(app)) == 2)
        at_last = ends_of(app)

    (record,) = await lab.read(lab.job.source)
    assert set(while_held) == {1 - record.partition}
    assert at_first[record.partition] <= from_millis(record.timestamp) <= at_last[record.partition]


async def test_a_bug_in_an_agent_stops_the_app_and_leaves_its_batch_uncommitted(lab: Lab) -> None:
    handled: list[bytes] = []

    async def raise_on_poison(partition: int, records: list[ConsumerRecord]) -> None:
        handled.extend(record.value for record in records)
        if records[-1].value == b"poison":
            raise ArithmeticError

    app, _ = app_of(lab, raise_on_poison)
    async with running(app):
        await lab.produce([b"poison"], keys=1)
        await eventually(lambda: app.should_stop)
        await lab.produce([b"more"], keys=1)

    assert isinstance(app.crash_reason, ArithmeticError)
    assert sum((await lab.committed()).values()) == 0
    assert handled == [b"poison"]


async def test_a_failure_outside_of_agents_stops_the_app_too(lab: Lab) -> None:
    app, _ = app_of(lab, ignore)
    async with running(app):
        await fail_fast(app, ArithmeticError())

    assert isinstance(app.crash_reason, ArithmeticError)


async def test_a_worker_that_does_not_get_out_of_a_rebalance_stops(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Consumer, "stuck_after", 0.5)
    app, _ = app_of(lab, ignore)
    async with running(app):
        app.rebalancing = True
        await eventually(lambda: app.should_stop)

    assert isinstance(app.crash_reason, StuckInRebalance)


async def test_a_refused_record_fails_the_whole_send_and_every_commit_after_it(lab: Lab) -> None:
    await lab.configure(lab.job.target, max_message_bytes="100")
    app, _ = app_of(lab, ignore)
    async with running(app):
        producer = producer_of(app)
        with pytest.raises(DeliveryFailed, match="MessageSizeTooLarge"):
            await producer.send_all([(lab.job.target, b"key", b"v" * 1000, None, None)])
        with pytest.raises(DeliveryFailed):
            await producer.flush()
        await lab.produce([b"any"])
        await eventually(lambda: app.should_stop)

    assert sum((await lab.committed()).values()) == 0


async def test_a_worker_that_the_group_has_dropped_writes_nothing(lab: Lab) -> None:
    app, _ = app_of(lab, ignore)
    async with running(app):
        app.consumer.lease.lost()
        with pytest.raises(DeliveryFailed):
            await producer_of(app).send_all([(lab.job.target, b"key", b"stale", None, None)])

    assert await lab.read(lab.job.target) == []


async def test_headers_and_partition_arrive_as_they_were_sent(lab: Lab) -> None:
    app, _ = app_of(lab, ignore)
    async with running(app):
        await producer_of(app).send_all([(lab.job.target, b"key", b"value", [("reason", b"test")], 1)])

    (record,) = await lab.read(lab.job.target)
    assert (record.partition, record.key, record.value) == (1, b"key", b"value")
    assert record.headers == (("reason", b"test"),)


async def test_state_leaves_with_its_partition_and_is_read_back_by_its_next_owner(lab: Lab) -> None:
    (first_app, first), (second_app, second) = app_of(lab, ignore), app_of(lab, ignore)
    async with running(first_app):
        await write_state(first_app, first, 0, b"key", b"old")
        await write_state(first_app, first, 0, b"key", b"new")
        await write_state(first_app, first, 0, b"gone", b"value")
        await write_state(first_app, first, 0, b"gone", None)
        await write_state(first_app, first, 1, b"key", b"other")
        everything, epoch = dict(first.parts), first.epoch
        async with running(second_app):
            await eventually(lambda: is_settled(first_app) and len(first.parts) == 1)
            shared = {**first.parts, **second.parts}
        await eventually(lambda: is_settled(first_app) and len(first.parts) == 2)

    assert everything == {0: {"key": b"new"}, 1: {"key": b"other"}}
    assert shared == everything
    assert first.parts == everything
    assert first.epoch > epoch


async def test_a_large_state_is_read_back_whole(lab: Lab) -> None:
    expected: dict[int, dict[str, bytes]] = {0: {}, 1: {}}
    async with AIOKafkaProducer(bootstrap_servers=lab.job.broker, linger_ms=5) as producer:
        for number in range(100_000):
            partition, key, value = number % 2, b"key-%d" % number, b"%d" % number
            expected[partition][key.decode()] = value
            sent = await producer.send(lab.changelog, value, key=key, partition=partition)
        await sent

    app, store = app_of(lab, ignore)
    async with running(app):
        assert store.parts == expected


def ends_of(app: faust.App) -> dict[int, datetime]:
    return {tp.partition: at for tp, at in end_of_log(app).items() if at is not None}


async def write_state(app: faust.App, store: PartitionStore, partition: int, key: bytes, value: bytes | None) -> None:
    await producer_of(app).send_all([(store.changelog_topic_name, key, value, None, partition)])
    store.put(partition, key.decode(), value)
