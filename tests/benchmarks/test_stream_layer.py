"""Records per second of split and of join, beside others that do the same work, in one run and interleaved.

Each is a process of its own. It works through half of the load to warm up; then it is stopped while the second half is
written, and measured from its start to its last output.
"""

import asyncio
import io
import os
import sys
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from functools import partial
from statistics import median
from typing import Any, NamedTuple

import fastavro
import pytest

from runtime import kafka
from runtime.clock import now, to_millis
from runtime.cluster import cluster_of
from runtime.settings import Settings
from schemas.codec import event_codec
from schemas.released import released
from schemas.topics import EVENTS, LEADS, WEBHOOKS, Topic
from tests.benchmarks.conftest import Note
from tests.benchmarks.contenders import CONTENDERS, Contender, NotHere
from tests.benchmarks.lane import Record, cpu_seconds, fill, halves, lane, read, running, stopped
from tests.benchmarks.load import SIGNALS, joinable, webhooks
from tests.integration.topics import connected, records_of

pytestmark = [pytest.mark.anyio, pytest.mark.benchmark]

PARTITIONS = 4
PEOPLE = 12_000
REVISIONS = 3
# A process that has written so much of its outputs will soon be idle.
_NEARLY_ALL = 0.99
_IDLE_AFTER = 1.0
# The content of a lead or an event, without ids and times that every implementation makes for itself.
_CONTENT = {
    EVENTS.name: (
        "kind", "event_at", "outcome", "answers", "ad", "mid", "text", "previous_owner_app_id", "new_owner_app_id",
        "metadata",
    ),
    LEADS.name: (
        "revision", "outcome", "answers", "answers_source", "summary_text", "ad", "target_app_id", "handover_at",
        "referral_at", "summary_at", "last_user_message_at", "messaging_window_closes_at", "closed", "close_reason",
    ),
}  # fmt: skip
_SCHEMAS = {release.id: fastavro.parse_schema(release.definition) for release in released()}

Content = dict[str, list[tuple[Any, ...]]]


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
    contenders: dict[str, Contender] = {}
    for name, prepare in CONTENDERS.items():
        try:
            contenders[name] = prepare()
        except NotHere as reason:
            note(f"{stage}: {name}", f"not measured: {reason}")
    speeds: dict[str, list[Speed]] = defaultdict(list)
    content_of_ours: Content = {}
    for number in range(max(contender.rounds for contender in contenders.values())):
        for name, contender in contenders.items():
            if number >= contender.rounds:
                continue
            settings = Settings(
                broker=kafka_broker, topic_prefix=f"bench-{os.getpid()}-{stage}-{number}-{name}-", partitions=PARTITIONS
            )
            async with lane(settings, timed=target):
                load = Load(settings, contender, stage, source, inputs)
                speeds[name].append(await _measured(load, target, outputs))
                if number == 0:
                    content = await _content(settings, target)
                    content_of_ours = content_of_ours or content
                    assert len(content) == PEOPLE
                    assert content == content_of_ours, f"{contender.title} gives something else"

    ours = _medians(speeds["ours"])
    for name, contender in contenders.items():
        speed, clock = _medians(speeds[name]), sorted(speed.a_second for speed in speeds[name])
        note(
            f"{stage}, {SIGNALS * PEOPLE:,} webhooks: {contender.title}",
            f"{speed.a_second:,.0f} a second ({clock[0]:,.0f} to {clock[-1]:,.0f}), "
            f"leadstream {ours.a_second / speed.a_second:.2f} of it; {speed.a_cpu_second:,.0f} a CPU second, "
            f"leadstream {ours.a_cpu_second / speed.a_cpu_second:.2f} of it",
        )


def _medians(speeds: Sequence[Speed]) -> Speed:
    return Speed(*(median(column) for column in zip(*speeds, strict=True)))


def _events(people: int) -> list[Record]:
    codec = event_codec()
    return [(key, codec.encode(event)) for key, event in joinable(people, raw_partitions=PARTITIONS)]


class Load(NamedTuple):
    """The input of one process."""

    settings: Settings
    contender: Contender
    stage: str
    source: Topic
    inputs: Sequence[Record]

    @asynccontextmanager
    async def half(self, number: int) -> AsyncIterator[Callable[[], Coroutine[Any, Any, None]]]:
        """The first or the second half, ready to be written by a call."""
        if self.contender.fills is None:
            half = halves(self.inputs, PEOPLE * SIGNALS // 2)[number]
            yield partial(fill, self.settings, self.source, half)
            return
        command = (sys.executable, "-c", self.contender.fills, self.stage, str(PEOPLE), str(number))
        async with running(self.settings, *command, folder=self.contender.folder) as process:
            assert process.stdout is not None
            assert await process.stdout.readline() == b"ready\n"

            async def write() -> None:
                await process.communicate(b"\n")
                assert process.returncode == 0

            yield write


async def _measured(load: Load, target: Topic, outputs: int) -> Speed:
    settings, contender = load.settings, load.contender
    async with load.half(0) as write:
        await write()
    command = (*contender.command, load.stage, *contender.behind)
    consumer = kafka.consumer(cluster_of(settings), settings.topic(target.name), group=None, client_id="bench")
    async with (
        running(settings, *command, folder=contender.folder) as process,
        connected(consumer),
        load.half(1) as write,
    ):
        warm = await read(consumer, int(outputs / 2 * _NEARLY_ALL), process)
        await asyncio.sleep(_IDLE_AFTER)
        async with stopped(process):
            await write()
            cpu_before, began_at = cpu_seconds(process.pid), now()
        await read(consumer, outputs - warm, process)
        cpu = cpu_seconds(process.pid) - cpu_before
    times = sorted(record.timestamp for record in await _outputs(settings, target))
    inputs = PEOPLE * SIGNALS / 2
    return Speed(1000 * inputs / (times[outputs - 1] - to_millis(began_at)), inputs / cpu)


async def _outputs(settings: Settings, topic: Topic) -> Sequence[Any]:
    """Progress, which has no key, is none of the outputs."""
    return [record for record in await records_of(settings, settings.topic(topic.name)) if record.key is not None]


async def _content(settings: Settings, topic: Topic) -> Content:
    """The outputs of each person, in an order that does not depend on the partition."""
    content: Content = defaultdict(list)
    for record in await _outputs(settings, topic):
        schema = _SCHEMAS[int.from_bytes(record.value[1:5], "big")]
        values = fastavro.schemaless_reader(io.BytesIO(record.value[5:]), schema, None)
        content[values["psid"]].append(tuple(values[name] for name in _CONTENT[topic.name]))
    return {psid: sorted(said, key=repr) for psid, said in content.items()}
