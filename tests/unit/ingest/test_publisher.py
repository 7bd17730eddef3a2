"""The publisher says what stands between it and its topic."""

import pytest
from aiokafka.errors import KafkaConnectionError

from ingest.publisher import Publisher
from tests.unit.ingest.fakes import TOPIC, FakeProducer


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("producer", "fault"),
    [
        pytest.param(FakeProducer(), None, id="fine"),
        pytest.param(
            FakeProducer(unreachable=KafkaConnectionError()), "no answer from Kafka: KafkaConnectionError", id="gone"
        ),
        pytest.param(
            FakeProducer(topics=frozenset()),
            f"topic {TOPIC} is missing: run `leadstream topics apply`",
            id="no topic",
        ),
    ],
)
async def test_faults_are_named(producer: FakeProducer, fault: str | None) -> None:
    assert await Publisher(producer, TOPIC).find_fault() == fault
