"""What a dead letter keeps and says, and how many there may be."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest

from runtime.dead_letter import DeadLetterLimit, TooManyDeadLetters, dead_letter

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class _Record:
    topic: str = "orders"
    partition: int = 3
    offset: int = 41
    key: bytes | None = b"k"
    value: bytes | None = b"\x00\xff not ours"
    headers: tuple[tuple[str, bytes], ...] = ()


def test_key_and_value_are_the_bytes_that_came() -> None:
    key, value, _ = dead_letter(_Record(), stage="decode", reason="too short", fault="NotDecodable")

    assert (key, value) == (b"k", b"\x00\xff not ours")


def test_record_of_nothing_can_still_be_written() -> None:
    """aiokafka refuses a record that has neither key nor value."""
    key, value, _ = dead_letter(_Record(key=None, value=None), stage="decode", reason="no value", fault="NotDecodable")

    assert (key, value) == (b"", None)


def test_headers_say_where_from_and_why_in_connects_names() -> None:
    _, _, headers = dead_letter(_Record(), stage="decode", reason="too short", fault="NotDecodable")

    assert dict(headers) == {
        "__connect.errors.topic": b"orders",
        "__connect.errors.partition": b"3",
        "__connect.errors.offset": b"41",
        "__connect.errors.stage": b"decode",
        "__connect.errors.class.name": b"decode",
        "__connect.errors.exception.class.name": b"NotDecodable",
        "__connect.errors.exception.message": b"too short",
    }


def test_a_second_refusal_replaces_the_first_and_keeps_the_records_own_headers() -> None:
    record = _Record(headers=(("received-at", b"1"), ("__connect.errors.topic", b"elsewhere")))

    _, _, headers = dead_letter(record, stage="decode", reason="too short", fault="NotDecodable")

    assert headers[0] == ("received-at", b"1")
    assert [value for name, value in headers if name == "__connect.errors.topic"] == [b"orders"]


def test_one_dead_letter_too_many_in_a_minute_stops_the_line() -> None:
    limit = DeadLetterLimit(3)
    limit.count("orders", 0, 2, NOON)
    limit.count("orders", 0, 1, NOON + 59 * SECOND)

    with pytest.raises(TooManyDeadLetters, match="more than 3 dead letters a minute of orders/0"):
        limit.count("orders", 0, 1, NOON + 59 * SECOND)


def test_refusals_of_a_minute_ago_no_longer_count() -> None:
    limit = DeadLetterLimit(3)
    limit.count("orders", 0, 3, NOON)

    limit.count("orders", 0, 3, NOON + 60 * SECOND)


def test_each_partition_of_each_topic_has_its_own_limit() -> None:
    limit = DeadLetterLimit(3)

    for topic, partition in (("orders", 0), ("orders", 1), ("returns", 0)):
        limit.count(topic, partition, 3, NOON)


def test_a_limit_of_none_lets_none_through() -> None:
    limit = DeadLetterLimit(0)
    limit.count("orders", 0, 0, NOON)

    with pytest.raises(TooManyDeadLetters):
        limit.count("orders", 0, 1, NOON)
