"""A verified delivery onto the raw topic, byte for byte."""

from dataclasses import dataclass
from datetime import datetime

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, OutOfOrderSequenceNumber, ProducerFenced

from messenger.webhook import delivery_key
from runtime.clock import to_millis


class NotDurable(Exception):
    """Kafka has not acknowledged the delivery. It may still arrive, so Meta's next copy may be the second."""


class ProducerBroken(NotDurable):
    """The producer has lost its place and will never be acknowledged again: only a new process helps."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """One webhook POST whose signature held: the body as it came, and what came with it."""

    id: str
    received_at: datetime
    signature: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Receipt:
    """Where a delivery lies, acknowledged by all in-sync replicas."""

    topic: str
    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.topic}/{self.partition}/{self.offset}"


class Publisher:
    """Publishes deliveries to one topic through a started producer.

    Records of one person share a key and so a partition: aiokafka's default partitioner is Kafka's own murmur2.
    """

    def __init__(self, producer: AIOKafkaProducer, topic: str) -> None:
        self._producer = producer
        self.topic = topic

    async def publish(self, delivery: Delivery) -> Receipt:
        """Return once the delivery is durable; raise `NotDurable` when Kafka refuses it."""
        key = delivery_key(delivery.body)
        try:
            record = await self._producer.send_and_wait(
                self.topic,
                delivery.body,
                key=None if key is None else key.encode(),
                headers=[
                    ("received-at", b"%d" % to_millis(delivery.received_at)),
                    ("x-hub-signature-256", delivery.signature.encode()),
                    ("delivery-id", delivery.id.encode()),
                ],
            )
        except (OutOfOrderSequenceNumber, ProducerFenced) as error:
            raise ProducerBroken(type(error).__name__) from error
        except KafkaError as error:
            raise NotDurable(type(error).__name__) from error
        return Receipt(record.topic, record.partition, record.offset)

    async def find_fault(self) -> str | None:
        """What is wrong with the way to the topic, or None when Kafka answers and has it."""
        try:
            cluster = await self._producer.client.fetch_all_metadata()
        except KafkaError as error:
            return f"no answer from Kafka: {type(error).__name__}"
        if cluster.partitions_for_topic(self.topic) is None:
            return f"topic {self.topic} is missing: run `leadstream topics apply`"
        return None
