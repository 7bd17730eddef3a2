"""A consumer group that begins at a moment, and later where it stopped: lead revisions as lines of JSON.

python examples/follow_since.py 127.0.0.1:9092 my-group 2026-03-01T00:00:00+00:00

Start it more than once with one group, and the copies share the partitions.
"""

import asyncio
import json
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from datetime import datetime

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition

from leads.records import Lead
from runtime.cluster import Cluster, cluster_of
from runtime.settings import read_settings
from schemas.codec import lead_codec
from schemas.topics import LEADS


class _BeginAt(ConsumerRebalanceListener):  # type: ignore[misc]
    """Puts partitions of which the group has committed nothing at a moment, or at their end if nothing is newer."""

    def __init__(self, consumer: AIOKafkaConsumer, since: datetime) -> None:
        self._consumer, self._millis = consumer, int(since.timestamp() * 1000)

    async def on_partitions_assigned(self, assigned: list[TopicPartition]) -> None:
        unread = [partition for partition in assigned if await self._consumer.committed(partition) is None]
        ends = await self._consumer.end_offsets(unread)
        found = await self._consumer.offsets_for_times(dict.fromkeys(unread, self._millis))
        for partition, at in found.items():
            self._consumer.seek(partition, at.offset if at is not None else ends[partition])

    async def on_partitions_revoked(self, revoked: list[TopicPartition]) -> None:
        """Nothing to give back: what was taken is committed."""


async def follow(
    cluster: Cluster,
    group: str,
    since: datetime,
    take: Callable[[Lead], Awaitable[None]],
    stop: asyncio.Event,
    topic: str = LEADS.name,
) -> None:
    """Hand over every lead revision until `stop` is set; one whose `take` did not end comes again to the next start."""
    consumer = AIOKafkaConsumer(**cluster.options, group_id=group, enable_auto_commit=False)
    consumer.subscribe([topic], listener=_BeginAt(consumer, since))
    codec = lead_codec()
    async with consumer:
        while not stop.is_set():
            for records in (await consumer.getmany(timeout_ms=500)).values():
                for record in records:
                    # A tombstone says that the lead was erased.
                    if record.value is not None:
                        await take(codec.decode(record.value))
            if consumer.assignment():
                await consumer.commit()


async def main() -> None:
    broker, group, since = sys.argv[1:]
    # LEADSTREAM_KAFKA_… say how to come in.
    cluster = cluster_of(read_settings({**os.environ, "LEADSTREAM_BROKER": broker}))
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)

    async def show(lead: Lead) -> None:
        print(json.dumps({"lead": lead.lead_id, "revision": lead.revision, "outcome": lead.outcome}))  # noqa: T201

    await follow(cluster, group, datetime.fromisoformat(since), show, stop)


if __name__ == "__main__":
    asyncio.run(main())
