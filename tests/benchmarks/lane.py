"""What a benchmark runs in: topics of its own, records in them, and a process on them."""

import asyncio
import os
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path

from operations.deployment import expected_topics
from runtime import kafka
from runtime.cluster import cluster_of
from runtime.settings import Settings, variable
from runtime.topic_admin import apply_topics, delete_topics, topic_names
from schemas.topics import COMMANDS, EVENTS, JOIN_STATE, LEADS, TRANSCRIPTS, WEBHOOKS, Topic
from tests.integration.topics import connected

Record = tuple[bytes | None, bytes]

_TICKS = os.sysconf("SC_CLK_TCK")


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
        *command, cwd=folder, env={**os.environ, **environ}, stdout=asyncio.subprocess.PIPE
    )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
