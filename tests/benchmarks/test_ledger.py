"""How long the send sink reads its ledger before its first send."""

import time

import pytest

from runtime import kafka
from runtime.clock import now
from runtime.cluster import cluster_of
from runtime.settings import Settings
from schemas.codec import outcome_codec
from schemas.topics import OUTCOMES
from sinks.send.broker_clock import BrokerTime
from sinks.send.ledger import Ledger
from sinks.send.outcome_log import OutcomeLog
from tests.benchmarks.conftest import Note
from tests.integration.topics import connected
from tests.unit.sinks.outcomes import an_outcome

pytestmark = [pytest.mark.anyio, pytest.mark.benchmark]

_COUNT = 400_000


async def test_reading_the_ledger(kafka_topics: Settings, note: Note) -> None:
    broker, topic, codec = cluster_of(kafka_topics), kafka_topics.topic(OUTCOMES.name), outcome_codec()
    async with (
        connected(kafka.producer(broker, client_id="bench", linger_ms=20)) as producer,
        connected(kafka.consumer(broker, group=None, client_id="bench")) as reader,
    ):
        for number in range(_COUNT):
            name = f"8d6c0c1e-0000-5000-8000-{number:012}"
            value = codec.encode(an_outcome(name, "sent", attempt=1, mid=f"m_{number:080}"))
            await producer.send(topic, value, key=name.encode(), partition=number % kafka_topics.partitions)
        await producer.flush()
        ledger = Ledger(OutcomeLog(topic, reader, producer), codec, BrokerTime(now))
        begun = time.perf_counter()
        await ledger.open(range(kafka_topics.partitions))
        took = time.perf_counter() - begun

    assert all(f"8d6c0c1e-0000-5000-8000-{number:012}" in ledger.book(0).settled for number in range(0, _COUNT, 2))
    note(
        f"reading a ledger of {_COUNT:,} outcomes before the first send", f"{took:.1f} s, {_COUNT / took:,.0f} a second"
    )
