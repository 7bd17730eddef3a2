"""What a benchmark runs in: topics of its own, records in them, and a process on them."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import Any

from operations.deployment import expected_topics
from runtime import kafka
from runtime.cluster import cluster_of
from runtime.settings import Settings, variable
from runtime.topic_admin import apply_topics, delete_topics, topic_names
from schemas.topics import COMMANDS, EVENTS, JOIN_STATE, LEADS, TRANSCRIPTS, WEBHOOKS, Topic
from tests.integration.topics import connected

Record = tuple[bytes | None, bytes]

_TICKS = os.sysconf("SC_CLK_TCK")
_LONGEST_STOP = 9.0


@asynccontextmanager
async def lane(settings: Settings, *, timed: Topic) -> AsyncIterator[None]:
    """The topics of one run; what is `timed` carries the broker's own time, which is when a record was durable."""
    names = {settings.topic(topic.name) for topic in (WEBHOOKS, EVENTS, LEADS, COMMANDS, TRANSCRIPTS, JOIN_STATE)}
    wanted = [
        replace(topic, config={**topic.config, "message.timestamp.type": "LogAppendTime"})
        if topic.name == settings.topic(timed.name)
        else topic
        for topic in expected_topics(settings)
        if topic.name in names
    ]
    # Stock Faust names its changelog after its own app. Quix Streams and Kafka Streams make theirs.
    ours = next(topic for topic in wanted if topic.name == settings.topic(JOIN_STATE.name))
    stock = replace(ours, name=settings.topic("stock-join-changelog"))
    await apply_topics(cluster_of(settings), [*wanted, stock])
    try:
        yield
    finally:
        made = [name for name in await topic_names(cluster_of(settings)) if settings.topic_prefix in name]
        await delete_topics(cluster_of(settings), made)


async def fill(settings: Settings, topic: Topic, records: Iterable[Record]) -> None:
    """Records without a key are progress: every partition gets them."""
    name = settings.topic(topic.name)
    async with connected(kafka.producer(cluster_of(settings), client_id="load", linger_ms=20)) as producer:
        for key, value in records:
            for partition in [None] if key is not None else range(settings.partitions):
                await producer.send(name, value, key=key, partition=partition)
        await producer.flush()


def halves(records: Sequence[Record], keyed_in_first: int) -> tuple[Sequence[Record], Sequence[Record]]:
    """The load in two, each with the progress behind its events."""
    keyed = [number for number, (key, _) in enumerate(records) if key is not None]
    begin = keyed[keyed_in_first]
    return records[:begin], records[begin:]


async def read(consumer: Any, wanted: int, *processes: asyncio.subprocess.Process) -> int:
    """Read at least as many records with a key, which the processes write; how many they were."""
    count = 0
    async with asyncio.timeout(600):
        while count < wanted:
            assert all(process.returncode is None for process in processes), "a process ended by itself"
            for records in (await consumer.getmany(timeout_ms=50)).values():
                count += sum(1 for record in records if record.key is not None)
    return count


@asynccontextmanager
async def stopped(*processes: asyncio.subprocess.Process) -> AsyncIterator[None]:
    """The processes stand still meanwhile, so that what is written for them waits when they go on.

    leadstream's lease on its partitions ends after 12 seconds, so a longer stop would measure a rebalance.
    """
    for process in processes:
        process.send_signal(signal.SIGSTOP)
    began_at = perf_counter()
    try:
        yield
    finally:
        for process in processes:
            process.send_signal(signal.SIGCONT)
    took = perf_counter() - began_at
    assert took < _LONGEST_STOP, f"the load took {took:.0f} s to write: this machine is too busy to measure on"


def cpu_seconds(pid: int) -> float:
    """https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html: fields 14 and 15, after a name in brackets."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


@asynccontextmanager
async def running(
    settings: Settings, *command: str, folder: Path = Path(__file__).parents[2]
) -> AsyncIterator[asyncio.subprocess.Process]:
    """A process in a folder, by default that of the project, which knows the topics; it is killed at the end."""
    environ = {variable(name): str(getattr(settings, name)) for name in ("broker", "topic_prefix", "partitions")}
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=folder,
        env={**os.environ, **environ},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
