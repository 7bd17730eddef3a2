"""The stream layer under faults, on a real Kafka: what our transport keeps, and what stock Faust loses in its place."""

import asyncio
import random
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from tests.faults.lab import Lab, Verdict, eventually, judge

pytestmark = [pytest.mark.faults, pytest.mark.anyio]

# Only there so that a failure ends.
PATIENCE = 300
VALUES = [b"%d" % number for number in range(400)]
TOO_LARGE = b"9" * 5000


async def test_an_agents_bug_ends_the_worker_and_moves_no_offset_past_it(lab: Lab) -> None:
    await lab.create_topics({})
    await lab.produce(VALUES)

    broken = await lab.start_worker(poison="300")
    status = await asyncio.wait_for(broken.wait(), PATIENCE)
    committed = await lab.committed()
    await lab.start_worker()
    await eventually(lab.all_is_committed)

    poisoned = next(record for record in await lab.read(lab.job.source) if record.value == b"300")
    assert status == 1
    assert committed[poisoned.partition] <= poisoned.offset
    assert await judge(lab) == Verdict(missing=0, wrong=0, stale=0, repeated=0)


async def test_stock_faust_commits_past_an_agents_bug(lab: Lab) -> None:
    await lab.create_topics({})
    await lab.produce(VALUES)

    broken = await lab.start_worker(poison="300", transport="stock", work="copy")
    await eventually(lab.all_is_committed)

    assert broken.returncode is None
    assert await missing_copies(lab) == {b"300"}


@pytest.mark.parametrize("transport", ["ours", "stock"])
async def test_an_output_that_kafka_refuses_is_not_committed(lab: Lab, transport: str) -> None:
    await lab.create_topics({lab.job.target: {"max.message.bytes": "3000"}})
    await lab.produce([*VALUES, TOO_LARGE, *VALUES])

    worker = await lab.start_worker(transport=transport, work="copy")

    if transport == "stock":
        await eventually(lab.all_is_committed)
        # Kafka refuses a batch whole, so the records that share it are lost too.
        assert TOO_LARGE in await missing_copies(lab)
        return
    assert await asyncio.wait_for(worker.wait(), PATIENCE) == 1
    refused = next(record for record in await lab.read(lab.job.source) if record.value == TOO_LARGE)
    assert (await lab.committed())[refused.partition] <= refused.offset
    await lab.configure(lab.job.target, max_message_bytes="1000000")
    await lab.start_worker(work="copy")
    await eventually(lab.all_is_committed)
    assert await missing_copies(lab) == set()


@pytest.mark.parametrize("transport", ["ours", "stock"])
async def test_state_that_kafka_refuses_is_not_committed(lab: Lab, transport: str) -> None:
    await lab.create_topics({lab.changelog: {"max.message.bytes": "60"}})
    await lab.produce(VALUES)

    worker = await lab.start_worker(transport=transport)

    if transport == "stock":
        await eventually(lab.all_is_committed)
        assert await lab.read(lab.changelog) == []
        return
    assert await asyncio.wait_for(worker.wait(), PATIENCE) == 1
    assert set((await lab.committed()).values()) == {0}
    await lab.configure(lab.changelog, max_message_bytes="1000000")
    await lab.start_worker()
    await eventually(lab.all_is_committed)
    assert_nothing_lost(await judge(lab))


@pytest.mark.parametrize("transport", ["ours", "stock"])
async def test_state_that_is_not_sent_yet_is_not_committed(lab: Lab, transport: str) -> None:
    await lab.create_topics({})
    await lab.produce([b"%d" % number for number in range(6000)], keys=6000)

    worker = await lab.start_worker(transport=transport, changelog_delay=2.0)
    await eventually(lambda: has_committed(lab))
    worker.kill()
    await worker.wait()

    committed = await lab.committed()
    kept = {record.key for record in await lab.read(lab.changelog)}
    done = {r.key for r in await lab.read(lab.job.source) if r.offset < committed[r.partition]}
    assert bool(done - kept) == (transport == "stock")


@pytest.mark.parametrize("transport", ["ours", "stock"])
async def test_gaps_in_the_log_do_not_hold_the_commit_back(lab: Lab, transport: str) -> None:
    await lab.create_topics({})
    await lab.produce_in_transactions(1000, of=5)

    await lab.start_worker(transport=transport, work="copy")
    await eventually(lambda: all_is_copied(lab))

    if transport == "ours":
        await eventually(lab.all_is_committed)
        return
    ends = await lab.ends(lab.job.source)
    await asyncio.sleep(5)
    committed = await lab.committed()
    assert all(committed[partition] < end / 2 for partition, end in ends.items())


async def test_a_worker_that_went_on_too_late_cannot_overwrite_its_successors_state(lab: Lab) -> None:
    lab.job = replace(lab.job, partitions=1)
    await lab.create_topics({})
    late = await lab.start_worker(dawdle_at="dawdle")

    await lab.produce([b"dawdle"], keys=1)
    await eventually(lambda: has_output(lab))
    late.send_signal(signal.SIGSTOP)
    await lab.start_worker()
    await lab.produce(VALUES, keys=1)
    await eventually(lab.all_is_committed)
    late.send_signal(signal.SIGCONT)
    status = await asyncio.wait_for(late.wait(), PATIENCE)

    assert status == 1
    assert await judge(lab) == Verdict(missing=0, wrong=0, stale=0, repeated=1)


@pytest.mark.parametrize("seed", [1])
async def test_workers_killed_ten_times_lose_nothing(lab: Lab, seed: int) -> None:
    chance = random.Random(seed)
    lab.job = replace(lab.job, partitions=4)
    await lab.create_topics({})

    async with steady_load(lab):
        running = [await lab.start_worker(), await lab.start_worker()]
        for _ in range(10):
            await asyncio.sleep(chance.uniform(1, 9))
            victim = running.pop(chance.randrange(2))
            victim.kill()
            running.append(await lab.start_worker())
    await eventually(lab.all_is_committed)

    assert_nothing_lost(await judge(lab))


@pytest.mark.parametrize("seed", [1])
async def test_a_worker_stopped_past_its_session_harms_nothing_when_it_goes_on(lab: Lab, seed: int) -> None:
    chance = random.Random(seed)
    lab.job = replace(lab.job, partitions=4)
    await lab.create_topics({})

    async with steady_load(lab):
        running = [await lab.start_worker(), await lab.start_worker()]
        await eventually(lambda: has_committed(lab))
        for _ in range(4):
            await asyncio.sleep(chance.uniform(1, 2))
            sleeper = running[chance.randrange(2)]
            sleeper.send_signal(signal.SIGSTOP)
            await asyncio.sleep(lab.job.session_timeout + chance.uniform(2, 4))
            sleeper.send_signal(signal.SIGCONT)
            await asyncio.sleep(4)
            running = [worker if worker.returncode is None else await lab.start_worker() for worker in running]
    await eventually(lab.all_is_committed)

    assert_nothing_lost(await judge(lab))


async def test_scaling_up_and_down_under_load_loses_and_repeats_nothing(lab: Lab) -> None:
    lab.job = replace(lab.job, partitions=4)
    await lab.create_topics({})

    async with steady_load(lab):
        first = await lab.start_worker()
        await eventually(lambda: has_committed(lab))
        second, third = await lab.start_worker(), await lab.start_worker()
        await asyncio.sleep(8)
        for worker in (first, second):
            worker.terminate()
            assert await asyncio.wait_for(worker.wait(), PATIENCE) == 0
        await asyncio.sleep(4)
        assert third.returncode is None
    await eventually(lab.all_is_committed)

    assert await judge(lab) == Verdict(missing=0, wrong=0, stale=0, repeated=0)


def assert_nothing_lost(verdict: Verdict) -> None:
    assert replace(verdict, repeated=0) == Verdict(missing=0, wrong=0, stale=0, repeated=0)


@asynccontextmanager
async def steady_load(lab: Lab) -> AsyncIterator[None]:
    """About a thousand records a second while the block runs."""
    running = True

    async def load() -> None:
        number = 0
        while running:
            await lab.produce([b"%d" % n for n in range(number, number + 100)], keys=97)
            number += 100
            await asyncio.sleep(0.1)

    loading = asyncio.create_task(load())
    try:
        yield
    finally:
        running = False
        await loading


async def missing_copies(lab: Lab) -> set[bytes]:
    """The values of the source that are not in the target."""
    read, copied = await lab.read(lab.job.source), await lab.read(lab.job.target)
    return {record.value for record in read} - {record.value for record in copied}


async def all_is_copied(lab: Lab) -> bool:
    return await missing_copies(lab) == set()


async def has_output(lab: Lab) -> bool:
    return any((await lab.ends(lab.job.target)).values())


async def has_committed(lab: Lab) -> bool:
    return any((await lab.committed()).values())
