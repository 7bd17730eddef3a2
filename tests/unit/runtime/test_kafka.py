"""Leaving Kafka ends in time, whether it answers or not; batches are compressed fast."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

import pytest
from aiokafka.codec import lz4_encode
from aiokafka.errors import KafkaConnectionError
from aiokafka.producer.message_accumulator import BatchBuilder

from runtime.kafka import leave

pytestmark = pytest.mark.anyio


class _Client:
    def __init__(self, stop: Callable[[], Awaitable[None]]) -> None:
        self.stop = stop


async def _at_once() -> None: ...


async def _never() -> None:
    await asyncio.Event().wait()


async def _cancelled() -> None:
    raise asyncio.CancelledError


async def _refused() -> None:
    raise KafkaConnectionError("planted")


@pytest.mark.parametrize(
    ("stop", "told"),
    [
        (_at_once, []),
        (_never, [("client.abandoned", None)]),
        (_cancelled, []),
        (_refused, [("client.abandoned", "KafkaConnectionError")]),
    ],
)
async def test_a_client_is_left_however_its_stop_ends(
    stop: Callable[[], Awaitable[None]], told: list[tuple[str, str | None]], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        await leave(_Client(stop), 0.01)

    assert [(record.message, getattr(record, "fault", None)) for record in caplog.records] == told


def test_batches_are_compressed_at_the_fast_level() -> None:
    assert _a_batch("lz4") == lz4_encode(_a_batch("none"), level=1)


def _a_batch(compression: str) -> bytes:
    """The records of a batch without its header of 61 bytes."""
    batch = BatchBuilder(1 << 16, {"none": 0, "lz4": 3}[compression])
    for number in range(100):
        batch.append(timestamp=1, key=b"key %d" % number, value=b"value %d" % (number * 7919))
    return bytes(batch._build())[61:]
