"""What `leadstream dlq` does with letters: send them back or close them, and remember which."""

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

import click
from aiokafka import AIOKafkaProducer
from rich.console import Console
from rich.progress import track

from operations.broker import broker_of
from operations.dead_letters.letters import Discard, Letter, read_discard, sent_back
from runtime import kafka
from runtime.clock import now
from runtime.cluster import Cluster
from runtime.settings import Settings
from runtime.topic_admin import partition_counts
from runtime.topic_reading import records_now
from schemas.topics import REDRIVES

_CLIENT = "leadstream-dlq"


async def send_back(settings: Settings, letters: list[Letter]) -> None:
    """Send each letter, then remember that it went: a crash in between sends it twice, and loses none."""
    redrives = settings.topic(REDRIVES.name)
    async with _producing(settings) as producer:
        for letter in _tracked(letters, "sending back"):
            key, value, headers = sent_back(letter)
            assert letter.origin is not None, "an open letter has an origin"
            await producer.send_and_wait(
                letter.origin_topic, value, key=key, headers=headers, partition=letter.origin[0]
            )
            await producer.send_and_wait(redrives, now().isoformat().encode(), key=letter.id.encode())


async def close(settings: Settings, letters: list[Letter], said: Discard | None) -> None:
    """Remember that each letter was discarded, or with nothing `said`, that it is open again."""
    value, headers = (None, []) if said is None else (said.at.encode(), said.headers)
    async with _producing(settings) as producer:
        for letter in _tracked(letters, "closing"):
            await producer.send_and_wait(settings.topic(REDRIVES.name), value, key=letter.id.encode(), headers=headers)


@asynccontextmanager
async def _producing(settings: Settings) -> AsyncIterator[AIOKafkaProducer]:
    """A producer, once there is the topic in which is remembered what was done."""
    broker, redrives = broker_of(settings), settings.topic(REDRIVES.name)
    if not await partition_counts(broker, [redrives]):
        raise click.ClickException(f"the topic {redrives} is missing: run `leadstream topics apply`")
    producer = kafka.producer(broker, client_id=_CLIENT)
    await producer.start()
    try:
        yield producer
    finally:
        await producer.stop()


def _tracked(letters: list[Letter], what: str) -> Iterable[Letter]:
    return track(letters, what, console=Console(stderr=True), transient=True, disable=not letters)


async def remembered(broker: Cluster, settings: Settings) -> tuple[set[str], dict[str, Discard]]:
    """The ids of letters that went back, and those that were discarded and not opened again."""
    gone: set[str] = set()
    discards: dict[str, Discard] = {}
    async for record in records_now(broker, [settings.topic(REDRIVES.name)], client_id=_CLIENT):
        letter_id = record.key.decode()
        if record.value is None:
            discards.pop(letter_id, None)
        elif discarded := read_discard(record.value, record.headers):
            discards[letter_id] = discarded
        else:
            gone.add(letter_id)
    return gone, discards
