"""Records per second of split and of join, beside others that do the same work, in one run and interleaved."""

import asyncio
import os
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import pytest

from runtime import kafka
from runtime.cluster import cluster_of
from runtime.settings import Settings
from schemas.codec import event_codec
from schemas.topics import EVENTS, LEADS, WEBHOOKS, Topic
from tests.benchmarks.conftest import Note
from tests.benchmarks.lane import Record, cpu_seconds, fill, lane, running
from tests.benchmarks.load import SIGNALS, joinable, webhooks
from tests.integration.topics import connected, records_of

pytestmark = [pytest.mark.anyio, pytest.mark.benchmark]

PARTITIONS = 4
# Stock Faust takes longer than all others together.
ROUNDS = {"ours": 3, "plain": 3, "quix": 3, "stock": 1}
PEOPLE = 4_000
CONTENDERS = {"ours": "leadstream", "plain": "plain aiokafka loop", "quix": "Quix Streams", "stock": "stock Faust"}
REVISIONS = 3
# `make bench` makes it: Quix Streams excludes versions that ours has.
QUIX_PYTHON = Path(__file__).parents[2] / ".venv-bench" / "bin" / "python"
# Speed counts from the first tenth of the outputs on: starting up and joining a group are not in it.
_WARM_UP = 0.1


class Speed(NamedTuple):
    """Inputs a second, and inputs a second of the process's own processor time, which a busy machine blurs less."""

    a_second: float
    a_cpu_second: float


@pytest.mark.parametrize(
    ("stage", "source", "target", "outputs"),
    [("split", WEBHOOKS, EVENTS, PEOPLE * SIGNALS), ("join", EVENTS, LEADS, PEOPLE * REVISIONS)],
    ids=["split", "join"],
)
async def test_speed_beside_others_that_do_the_same_work(
    kafka_broker: str, note: Note, stage: str, source: Topic, target: Topic, outputs: int
) -> None:
    inputs = list(webhooks(PEOPLE)) if stage == "split" else _events(PEOPLE)
    contenders = [name for name in CONTENDERS if name != "quix" or QUIX_PYTHON.exists()]
    speeds: dict[str, list[Speed]] = defaultdict(list)
    for number in range(max(ROUNDS.values())):
        for name in [contender for contender in contenders if number < ROUNDS[contender]]:
            settings = Settings(
                broker=kafka_broker, topic_prefix=f"bench-{os.getpid()}-{stage}-{number}-{name}-", partitions=PARTITIONS
            )
            async with lane(settings, timed=target):
                await fill(settings, source, inputs)
                speeds[name].append(await _measured(settings, name, stage, target, outputs))

    plain = _medians(speeds["plain"])
    for name in CONTENDERS:
        what = f"{stage}, {SIGNALS * PEOPLE:,} webhooks: {CONTENDERS[name]}"
        if name not in speeds:
            note(what, "not measured: there is no .venv-bench, which `make bench` makes")
            continue
        found, all_of = _medians(speeds[name]), sorted(speed.a_second for speed in speeds[name])
        ratio, cpu_ratio = found.a_second / plain.a_second, found.a_cpu_second / plain.a_cpu_second
        note(
            what,
            f"{found.a_second:,.0f} a second ({all_of[0]:,.0f} to {all_of[-1]:,.0f}), {ratio:.2f} of plain; "
            f"{found.a_cpu_second:,.0f} a CPU second, {cpu_ratio:.2f} of plain",
        )


def _medians(speeds: Sequence[Speed]) -> Speed:
    return Speed(*(median(column) for column in zip(*speeds, strict=True)))


def _events(people: int) -> list[Record]:
    codec = event_codec()
    return [(key, codec.encode(event)) for key, event in joinable(people, raw_partitions=PARTITIONS)]


async def _measured(settings: Settings, name: str, stage: str, target: Topic, outputs: int) -> Speed:
    first = int(outputs * _WARM_UP)
    python = QUIX_PYTHON if name == "quix" else sys.executable
    async with running(settings, "tests.benchmarks.contender", name, stage, python=python) as process:
        await _until_written(settings, target, first, process)
        cpu_before = cpu_seconds(process.pid)
        await _until_written(settings, target, outputs, process)
        cpu = cpu_seconds(process.pid) - cpu_before
    times = sorted(record.timestamp for record in await _outputs(settings, target))
    inputs = (PEOPLE * SIGNALS) * (1 - _WARM_UP)
    return Speed(1000 * inputs / (times[outputs - 1] - times[first]), inputs / cpu)


async def _outputs(settings: Settings, topic: Topic) -> Sequence[Any]:
    """Progress, which has no key, is none of the outputs."""
    return [record for record in await records_of(settings, settings.topic(topic.name)) if record.key is not None]


async def _until_written(settings: Settings, topic: Topic, wanted: int, process: asyncio.subprocess.Process) -> None:
    consumer = kafka.consumer(cluster_of(settings), settings.topic(topic.name), group=None, client_id="bench")
    written = 0
    async with asyncio.timeout(300), connected(consumer):
        while written < wanted:
            assert process.returncode is None, "the process ended by itself"
            for records in (await consumer.getmany(timeout_ms=200)).values():
                written += sum(1 for record in records if record.key is not None)
