"""Follows `leads` from a moment on with Confluent's client and its Avro deserializer, without any of leadstream's code.

pip install "confluent-kafka[avro,schemaregistry]"
python examples/consume_confluent.py 127.0.0.1:9092 http://127.0.0.1:8001 2026-03-01T00:00:00+00:00

A registry with credentials or a CA of its own: LEADSTREAM_SCHEMA_REGISTRY_USERNAME, _PASSWORD and _CA_FILE.
"""

import os
import sys
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

# Not among leadstream's own dependencies.
from confluent_kafka import Consumer, TopicPartition  # type: ignore[import-not-found, unused-ignore]
from confluent_kafka.schema_registry import SchemaRegistryClient  # type: ignore[import-not-found, unused-ignore]
from confluent_kafka.schema_registry.avro import AvroDeserializer  # type: ignore[import-not-found, unused-ignore]
from confluent_kafka.serialization import (  # type: ignore[import-not-found, unused-ignore]
    MessageField,
    SerializationContext,
)

_SECONDS = 10


# librdkafka's names for what leadstream's settings say; its OAUTHBEARER takes a callback instead of a command.
_SECURITY = {
    "LEADSTREAM_KAFKA_SECURITY_PROTOCOL": "security.protocol",
    "LEADSTREAM_KAFKA_SASL_MECHANISM": "sasl.mechanism",
    "LEADSTREAM_KAFKA_SASL_USERNAME": "sasl.username",
    "LEADSTREAM_KAFKA_SASL_PASSWORD": "sasl.password",
    "LEADSTREAM_KAFKA_CA_FILE": "ssl.ca.location",
    "LEADSTREAM_KAFKA_CERT_FILE": "ssl.certificate.location",
    "LEADSTREAM_KAFKA_KEY_FILE": "ssl.key.location",
}


def security(environ: Mapping[str, str]) -> dict[str, str]:
    """Confluent's options for the security that leadstream's variables describe."""
    return {option: environ[name] for name, option in _SECURITY.items() if environ.get(name)}


def leads_since(
    broker: str, registry: str, since: datetime, topic: str = "leads", options: Mapping[str, str] | None = None
) -> Iterator[dict[str, Any]]:
    """Every lead revision that was written at or after a moment, up to the end of the topic as it is now."""
    reading = {"bootstrap.servers": broker, "group.id": "example", "enable.auto.commit": False}
    consumer = Consumer({**reading, **(options or {})})
    try:
        starts = _starts(consumer, topic, since)
        ends = {partition.partition: consumer.get_watermark_offsets(partition, _SECONDS)[1] for partition in starts}
        # -1 is librdkafka's word for "after the end": nothing in that partition is as new.
        left = {partition.partition for partition in starts if 0 <= partition.offset < ends[partition.partition]}
        consumer.assign([partition for partition in starts if partition.partition in left])
        yield from _read(consumer, AvroDeserializer(SchemaRegistryClient(_registry_settings(registry))), ends, left)
    finally:
        consumer.close()


def _registry_settings(url: str) -> dict[str, str]:
    settings, prefix = {"url": url}, "LEADSTREAM_SCHEMA_REGISTRY_"
    if user := os.environ.get(f"{prefix}USERNAME"):
        settings["basic.auth.user.info"] = f"{user}:{os.environ[f'{prefix}PASSWORD']}"
    if authority := os.environ.get(f"{prefix}CA_FILE"):
        settings["ssl.ca.location"] = authority
    return settings


def _starts(consumer: Any, topic: str, since: datetime) -> Any:
    partitions = consumer.list_topics(topic, _SECONDS).topics[topic].partitions
    millis = int(since.timestamp() * 1000)
    return consumer.offsets_for_times([TopicPartition(topic, partition, millis) for partition in partitions], _SECONDS)


def _read(consumer: Any, deserialize: Any, ends: dict[int, int], left: set[int]) -> Iterator[dict[str, Any]]:
    while left:
        message = consumer.poll(_SECONDS)
        if message is None or message.error():
            raise TimeoutError(f"Kafka gave nothing for {_SECONDS} seconds")
        # A tombstone says that the lead was erased.
        if message.value() is not None:
            yield deserialize(message.value(), SerializationContext(message.topic(), MessageField.VALUE))
        if message.offset() + 1 >= ends[message.partition()]:
            left.discard(message.partition())


def main() -> None:
    broker, registry, since = sys.argv[1:]
    for lead in leads_since(broker, registry, datetime.fromisoformat(since), options=security(os.environ)):
        print(lead["lead_id"], lead["revision"], lead["outcome"], lead["first_seen_at"])  # noqa: T201


if __name__ == "__main__":
    main()
