"""Kafka records as a consumer gives them."""

from typing import NamedTuple

from runtime.clock import to_millis
from tests.builders import NOON


class Consumed(NamedTuple):
    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]
    timestamp: int


def a_record(
    topic: str,
    partition: int = 0,
    offset: int = 0,
    key: bytes | None = None,
    value: bytes | None = None,
    headers: tuple[tuple[str, bytes], ...] = (),
) -> Consumed:
    """A record of noon."""
    return Consumed(topic, partition, offset, key, value, headers, to_millis(NOON))
