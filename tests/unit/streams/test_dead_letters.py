"""What becomes of a record that streams refuses."""

import logging
from dataclasses import dataclass, field

import pytest

from messenger.errors import UnreadableDelivery
from runtime.dead_letter import DeadLetterLimit, TooManyDeadLetters
from runtime.health import Health
from runtime.metrics import Metrics
from streams.dead_letters import Refusals
from streams.records import Refusal
from tests.builders import NOON


@dataclass
class ARecord:
    offset: int
    value: bytes = b"not json"
    topic: str = "messenger-webhooks"
    partition: int = 3
    key: bytes | None = b"k"
    timestamp: int = 0
    headers: list[tuple[str, bytes]] = field(default_factory=list)


def refusals(metrics: Metrics, most: int = 2) -> Refusals:
    return Refusals("split", UnreadableDelivery, "messenger-webhooks-dlq", DeadLetterLimit(most), metrics, Health())


def test_a_dead_letter_has_the_bytes_and_the_reason() -> None:
    (letter,) = refusals(Metrics()).letters([Refusal(ARecord(7), "not_json")], NOON)

    assert (letter.topic, letter.key, letter.value) == ("messenger-webhooks-dlq", b"k", b"not json")
    assert dict(letter.headers or ())["__connect.errors.exception.message"] == b"not_json"


def test_too_many_in_a_partition_give_no_letter_at_all() -> None:
    one_batch = [Refusal(ARecord(offset), "not_json") for offset in range(3)]

    with pytest.raises(TooManyDeadLetters, match="messenger-webhooks/3"):
        refusals(Metrics()).letters(one_batch, NOON)


def test_what_was_refused_is_counted_and_logged_with_its_place(caplog: pytest.LogCaptureFixture) -> None:
    metrics = Metrics()

    with caplog.at_level(logging.WARNING):
        refusals(metrics).report([Refusal(ARecord(7), "not_json")])

    (line,) = caplog.records
    assert (line.getMessage(), vars(line)["partition"], vars(line)["offset"]) == ("record.dead_lettered", 3, 7)
    labels = {"topic": "messenger-webhooks", "reason": "UnreadableDelivery"}
    assert metrics.registry.get_sample_value("leadstream_records_dead_lettered_total", labels) == 1
