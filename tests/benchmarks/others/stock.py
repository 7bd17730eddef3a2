"""Faust as it comes, one event at a time, with the settings that favour it most.

Run as `python -m tests.benchmarks.others.stock split|join`; `LEADSTREAM_…` variables say where. The join's state is a
table of Faust's, in memory, with a changelog in Faust's JSON.
"""

import json
import os
import sys
import tempfile
from typing import Any

import faust
import uvloop

from tests.benchmarks.others.work import EVENT, LEAD, events_of, join

BROKER, PREFIX = os.environ["LEADSTREAM_BROKER"], os.environ["LEADSTREAM_TOPIC_PREFIX"]
PARTITIONS = int(os.environ["LEADSTREAM_PARTITIONS"])
_BYTES = {"key_type": bytes, "value_type": bytes, "key_serializer": "raw", "value_serializer": "raw"}


async def run(stage: str) -> None:
    app = faust.App(
        f"{PREFIX}stock",
        broker=f"kafka://{BROKER}",
        store="memory://",
        autodiscover=False,
        web_enabled=False,
        topic_partitions=PARTITIONS,
        topic_disable_leader=True,
        table_standby_replicas=0,
        broker_commit_interval=1.0,
        producer_linger=0.005,
        producer_max_batch_size=256 * 1024,
        producer_compression_type="lz4",
        stream_buffer_maxsize=65536,
        worker_redirect_stdouts=False,
        datadir=tempfile.mkdtemp(prefix="faust-"),
    )
    webhooks, events, leads = (
        app.topic(f"{PREFIX}{name}", **_BYTES) for name in ("messenger-webhooks", "messenger-events", "leads")
    )
    people = app.Table("join", partitions=PARTITIONS)

    async def split_one(event: Any) -> None:
        message = event.message
        origin = (message.topic, message.partition, message.offset)
        for key, published in events_of(json.loads(event.value), origin, int(message.timestamp * 1000)):
            await events.send(key=key, value=EVENT.encode(published))

    async def join_one(event: Any) -> None:
        if event.key is None:
            return
        key = event.key.decode()
        people[key], lead = join(people.get(key), EVENT.decode(event.value))
        if lead is not None:
            await leads.send(key=lead["lead_id"].encode(), value=LEAD.encode(lead))

    source, work = (webhooks, split_one) if stage == "split" else (events, join_one)

    @app.agent(source)  # type: ignore[untyped-decorator]
    async def work_through(stream: Any) -> None:
        async for event in stream.events():
            await work(event)

    await app.start()
    await app.wait_until_stopped()


if __name__ == "__main__":
    uvloop.run(run(sys.argv[1]))
