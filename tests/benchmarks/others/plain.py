"""A loop of aiokafka alone: consume, work, produce; flush and commit once a second.

Run as `python -m tests.benchmarks.others.plain split|join`; `LEADSTREAM_…` variables say where. The join's state is in
memory and goes to the changelog as JSON, once for each event. Left out: reading it back at a start, and giving it up
when a partition goes to another process.
"""

import asyncio
import json
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any

import uvloop
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from tests.benchmarks.others.work import EVENT, LEAD, Json, events_of, join

BROKER, PREFIX = os.environ["LEADSTREAM_BROKER"], os.environ["LEADSTREAM_TOPIC_PREFIX"]
_GROUP = f"{PREFIX}plain"
_CHANGELOG = f"{PREFIX}leadstream-join-changelog"

Outgoing = tuple[str, bytes, bytes, int | None]
_people: dict[bytes, Json] = {}


def split_one(record: Any) -> Iterator[Outgoing]:
    origin = (record.topic, record.partition, record.offset)
    for key, event in events_of(json.loads(record.value), origin, record.timestamp):
        yield f"{PREFIX}messenger-events", key, EVENT.encode(event), None


def join_one(record: Any) -> Iterator[Outgoing]:
    if record.key is None:
        return
    state, lead = join(_people.get(record.key), EVENT.decode(record.value))
    _people[record.key] = state
    yield _CHANGELOG, record.key, json.dumps(state, separators=(",", ":")).encode(), record.partition
    if lead is not None:
        yield f"{PREFIX}leads", lead["lead_id"].encode(), LEAD.encode(lead), None


async def run(source: str, work: Callable[[Any], Iterator[Outgoing]]) -> None:
    consumer = AIOKafkaConsumer(
        f"{PREFIX}{source}", bootstrap_servers=BROKER, group_id=_GROUP, enable_auto_commit=False,
        auto_offset_reset="earliest",
    )  # fmt: skip
    producer = AIOKafkaProducer(
        bootstrap_servers=BROKER, acks="all", enable_idempotence=True, linger_ms=5, max_batch_size=256 * 1024,
        compression_type="lz4",
    )  # fmt: skip
    loop = asyncio.get_running_loop()
    async with consumer, producer:
        committed_at = loop.time()
        while True:
            for records in (await consumer.getmany(timeout_ms=100)).values():
                for record in records:
                    for topic, key, value, partition in work(record):
                        await producer.send(topic, value, key=key, partition=partition)
            if loop.time() - committed_at > 1:
                await producer.flush()
                await consumer.commit()
                committed_at = loop.time()


if __name__ == "__main__":
    split = sys.argv[1] == "split"
    uvloop.run(run("messenger-webhooks", split_one) if split else run("messenger-events", join_one))
