"""Inputs that nobody can use, among the good ones: signed bodies, and records written straight into Kafka."""

import json
from dataclasses import dataclass, field

from aiokafka import AIOKafkaProducer

from runtime.cluster import cluster_of
from runtime.settings import Settings
from schemas.codec import command_codec, outcome_codec
from schemas.topics import COMMANDS, EVENTS, OUTCOMES, WEBHOOKS
from simulator.people import PAGES
from tests.integration.topics import connected
from tests.unit.sinks.fakes import a_command
from tests.unit.sinks.outcomes import an_outcome

PAGE = PAGES[0].page_id


def _incompressible(number: int) -> str:
    """Ten thousand characters that PostgreSQL cannot compress into an index row."""
    return "".join(f"{(number + count) * 2654435761 % 2**32:08x}" for count in range(1250))


def _body(number: int, *entries: object) -> bytes:
    return json.dumps({"object": "page", "chaos": number, "entry": entries}).encode()


def _item(number: int, sender: str, mid: str) -> dict[str, object]:
    message = {"mid": mid, "text": "hello"}
    stamp = 1_770_000_000_000 + number
    return {"sender": {"id": sender}, "recipient": {"id": PAGE}, "timestamp": stamp, "message": message}


def large_with_an_empty_entry(number: int) -> bytes:
    """Ignored, not refused: there is nothing in it."""
    return _body(number, {"id": PAGE, "time": 1, "messaging": [], "padding": "p" * 260_000})


def nested(number: int) -> bytes:
    return b'{"object": "page", "chaos": %d, "entry": %s%s}' % (number, b"[" * 5_000, b"]" * 5_000)


def long_sender(number: int) -> bytes:
    return _body(number, {"id": PAGE, "time": 1, "messaging": [_item(number, "9" * 5_000, f"m_{number}")]})


def torn(number: int) -> bytes:
    return _body(number, {"id": PAGE, "time": 1, "messaging": []})[:-3]


BODIES = {
    "large, empty entry": large_with_an_empty_entry,
    "5,000 levels": nested,
    "5,000-character id": long_sender,
    "torn": torn,
}
REFUSED = frozenset({"5,000 levels", "5,000-character id", "torn"})
RECORDS = (EVENTS.name, COMMANDS.name, OUTCOMES.name)


@dataclass(slots=True)
class Poison:
    """What was put in, by topic: each must be a dead letter of that topic, with its bytes."""

    settings: Settings
    put: dict[str, set[bytes]] = field(default_factory=lambda: {name: set() for name in (WEBHOOKS.name, *RECORDS)})

    async def write(self, topic: str, number: int) -> None:
        """Write a record that no stage can use; raises `KafkaError` when Kafka does not take it."""
        value = _record(topic, number)
        self.put[topic].add(value)
        async with connected(
            AIOKafkaProducer(**cluster_of(self.settings).options, request_timeout_ms=20_000)
        ) as producer:
            await producer.send_and_wait(self.settings.topic(topic), value, key=b"poison")


def _record(topic: str, number: int) -> bytes:
    if topic == COMMANDS.name:
        return command_codec().encode(a_command(f"poison {number} {_incompressible(number)}"))
    if topic == OUTCOMES.name:
        return outcome_codec().encode(an_outcome(f"poison {number} {_incompressible(number)}", "expired"))
    return b"not Avro %d" % number
