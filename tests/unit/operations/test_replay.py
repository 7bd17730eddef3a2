"""The join's state rebuilt: no worker goes on from the present without the state of the past."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import KafkaConnectionError
from aiokafka.structs import OffsetAndTimestamp

from operations import replay
from operations.deployment import Deployment
from operations.replay import Session, rebuild_state
from runtime import kafka as clients
from runtime.cluster import Cluster
from runtime.settings import Settings
from schemas.topics import EVENTS, WEBHOOKS

pytestmark = pytest.mark.anyio
SETTINGS = Settings(partitions=1)
A_TIME = datetime(2020, 1, 1, tzinfo=UTC)


@dataclass
class AKafka:
    """A changelog with one person, and a producer whose connection is lost."""

    committed: dict[TopicPartition, Any] = field(default_factory=dict)

    async def __aenter__(self) -> "AKafka":
        return self

    async def __aexit__(self, *_: object) -> None: ...

    def assign(self, partitions: Sequence[TopicPartition]) -> None: ...

    async def beginning_offsets(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(partitions, 0)

    async def end_offsets(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(partitions, 9)

    async def offsets_for_times(self, times: dict[TopicPartition, int]) -> dict[TopicPartition, OffsetAndTimestamp]:
        return dict.fromkeys(times, OffsetAndTimestamp(5, 0))

    async def commit(self, offsets: dict[TopicPartition, Any]) -> None:
        self.committed |= offsets

    async def send(self, *_: object, **__: object) -> None:
        raise KafkaConnectionError


@dataclass
class ARecord:
    partition: int = 0
    key: bytes = b"p:1"
    value: bytes = b"state"


async def test_a_rebuild_that_dies_while_it_empties_the_state_has_put_streams_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kafka = AKafka()

    async def nobody_runs(*_: object) -> bool:
        return False

    async def changelog(*_: object) -> AsyncIterator[list[ARecord]]:
        yield [ARecord()]

    monkeypatch.setattr(replay, "is_running", nobody_runs)
    monkeypatch.setattr(replay, "whole_topic", changelog)
    monkeypatch.setattr(clients, "consumer", lambda *_, **__: kafka)
    monkeypatch.setattr(clients, "producer", lambda *_, **__: kafka)
    async with AsyncExitStack() as stack:
        with pytest.raises(KafkaConnectionError):
            await rebuild_state(Session(Deployment(SETTINGS, Cluster("nowhere")), stack), A_TIME)

    places = [TopicPartition(SETTINGS.topic(topic.name), 0) for topic in (WEBHOOKS, EVENTS)]
    assert [kafka.committed[place].offset for place in places] == [5, 9]
