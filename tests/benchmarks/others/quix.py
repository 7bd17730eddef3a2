"""Quix Streams, which stands on librdkafka and keeps its state in RocksDB, with a changelog.

Run as `python -m tests.benchmarks.others.quix split|join` by the Python of `.venv-bench`; `LEADSTREAM_…` variables say
where. Quix Streams reads the webhooks and encodes the state with its own JSON.
"""

import os
import sys
import tempfile
from typing import Any

from quixstreams import Application, State, message_context
from quixstreams.models import Serializer, Topic

from tests.benchmarks.others.work import EVENT, LEAD, Avro, Json, events_of, join

BROKER, PREFIX = os.environ["LEADSTREAM_BROKER"], os.environ["LEADSTREAM_TOPIC_PREFIX"]


class AvroSerializer(Serializer):  # type: ignore[misc] # mypy does not have Quix Streams
    def __init__(self, avro: Avro) -> None:
        self._avro = avro

    def __call__(self, value: Json, ctx: Any) -> bytes:
        return self._avro.encode(value)


def _source(app: Application, name: str, value: str) -> Topic:
    return app.topic(f"{PREFIX}{name}", key_deserializer="bytes", value_deserializer=value)


def _target(app: Application, name: str, avro: Avro) -> Topic:
    return app.topic(f"{PREFIX}{name}", key_serializer="bytes", value_serializer=AvroSerializer(avro))


def split_all(app: Application) -> None:
    def split_one(body: Json, _key: bytes, timestamp: int, _headers: Any) -> list[Json]:
        at = message_context()
        return [event for _, event in events_of(body, (at.topic, at.partition, at.offset), timestamp)]

    stream = app.dataframe(_source(app, "messenger-webhooks", "json")).apply(split_one, expand=True, metadata=True)
    stream.to_topic(
        _target(app, "messenger-events", EVENT), key=lambda event: f"{event['page_id']}:{event['psid']}".encode()
    )


def join_all(app: Application) -> None:
    def join_one(event: Json, state: State) -> Json | None:
        person, lead = join(state.get("person"), event)
        state.set("person", person)
        return lead

    stream = app.dataframe(_source(app, "messenger-events", "bytes"))
    stream = stream.filter(lambda _value, key, _timestamp, _headers: key is not None, metadata=True)
    stream = stream.apply(EVENT.decode).apply(join_one, stateful=True)
    stream = stream.filter(lambda lead: lead is not None)
    stream.to_topic(_target(app, "leads", LEAD), key=lambda lead: lead["lead_id"].encode())


if __name__ == "__main__":
    application = Application(
        broker_address=BROKER,
        consumer_group=f"{PREFIX}quix",
        auto_offset_reset="earliest",
        commit_interval=1.0,
        loglevel="WARNING",
        state_dir=tempfile.mkdtemp(prefix="quix-"),
        producer_extra_config={"linger.ms": 5, "compression.type": "lz4", "acks": "all", "enable.idempotence": True},
    )
    {"split": split_all, "join": join_all}[sys.argv[1]](application)
    application.run()
