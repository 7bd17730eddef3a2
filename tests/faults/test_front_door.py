"""Ingest under faults, on a Kafka of its own: every 200 is in the raw topic byte for byte, and no event is a second."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from runtime.local_kafka.node import KafkaNode
from tests.faults.front_door import Comparison, IngestProcess, Meta, compare

pytestmark = [pytest.mark.faults, pytest.mark.anyio]

# One webhook every 100 ms for as long as Meta waits before it unsubscribes the app, and ten minutes more.
SEVENTY_MINUTES = 70 * 60 * 10
PEAK_MEGABYTES = 300


@pytest.fixture
async def ingest(node: KafkaNode, tmp_path: Path) -> AsyncIterator[IngestProcess]:
    ingest = IngestProcess(tmp_path, f"127.0.0.1:{node.port}")
    await ingest.start()
    yield ingest
    await ingest.kill_if_alive()


async def start(node: KafkaNode) -> str:
    return await asyncio.to_thread(node.start, lambda _: None)


async def killed(node: KafkaNode) -> None:
    send(node, signal.SIGKILL)
    await asyncio.sleep(3)
    await start(node)


async def restarted(node: KafkaNode) -> None:
    await asyncio.to_thread(node.stop)
    await start(node)


async def frozen(node: KafkaNode) -> None:
    send(node, signal.SIGSTOP)
    await asyncio.sleep(4)
    send(node, signal.SIGCONT)


async def slowed(node: KafkaNode) -> None:
    for _ in range(10):
        send(node, signal.SIGSTOP)
        await asyncio.sleep(0.4)
        send(node, signal.SIGCONT)
        await asyncio.sleep(0.1)


def send(node: KafkaNode, signal_number: signal.Signals) -> None:
    running = node.status()
    assert running is not None
    os.kill(running.pid, signal_number)


async def test_fifty_thousand_webhooks_through_ten_broker_faults_and_three_crashes(
    node: KafkaNode, ingest: IngestProcess
) -> None:
    count = 50_000
    meta = Meta(ingest.port)
    faults: list[Callable[[KafkaNode], Awaitable[None]]] = [killed, frozen, slowed, restarted, frozen] * 2

    async def torment() -> None:
        for number, fault in enumerate(faults):
            await asyncio.sleep(2)
            async with crash_of(ingest, wanted=number in (0, 4, 8)):
                await fault(node)

    async with asyncio.TaskGroup() as tasks:
        tormenting = tasks.create_task(torment())
        posting = tasks.create_task(meta.post_all(range(count), connections=12, per_second=700))
    await ingest.drained()
    comparison = await compare(ingest.broker, meta.journal)

    assert tormenting.done()
    assert posting.done()
    assert len(meta.journal.receipts) == count
    assert any(receipt.startswith("spool/") for receipt in meta.journal.receipts.values())
    assert replace(comparison, copies=0) == Comparison(missing=0, foreign=0, events=count, misplaced=0, copies=0)
    assert await ingest.stop() == 0
    assert ingest.peak_megabytes < PEAK_MEGABYTES


@asynccontextmanager
async def crash_of(ingest: IngestProcess, *, wanted: bool) -> AsyncIterator[None]:
    """With `wanted`, ingest is killed a second after the block begins, and started again at once."""

    async def crash() -> None:
        await asyncio.sleep(1)
        await ingest.kill()
        await ingest.start()

    crashing = asyncio.create_task(crash() if wanted else asyncio.sleep(0))
    yield
    await crashing


async def test_seventy_minutes_without_kafka_are_all_200_and_drain_in_order(
    node: KafkaNode, ingest: IngestProcess
) -> None:
    meta = Meta(ingest.port)
    await meta.post_all(range(100), connections=4)
    await asyncio.to_thread(node.stop)

    await meta.post_all(range(100, SEVENTY_MINUTES // 2), connections=32)
    await ingest.kill()
    await ingest.start()
    await meta.post_all(range(SEVENTY_MINUTES // 2, SEVENTY_MINUTES), connections=32)
    again = dict(meta.journal.again)
    await start(node)
    await ingest.drained()
    comparison = await compare(ingest.broker, meta.journal)

    assert again == {}
    assert comparison == Comparison(missing=0, foreign=0, events=SEVENTY_MINUTES, misplaced=0, copies=0)
    assert await ingest.stop() == 0
    assert ingest.peak_megabytes < PEAK_MEGABYTES
