"""A loss that a fetch runs into is never committed as if it had been read."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import TopicPartition
from faust.types import TP

from runtime.kafka import FetchWatch
from runtime.losses import OutOfReach, Span
from runtime.reach import Reach
from streams.engine.consumer_thread import ConsumerThread

pytestmark = pytest.mark.anyio

PARTITION = TP("messenger-webhooks", 0)


class FetcherAtALoss:
    """As aiokafka: Kafka refuses the offset during the wait, and the position moves to the log's beginning."""

    _closed = False

    def __init__(self, watched: FetchWatch, state: SimpleNamespace) -> None:
        self._watched, self._state = watched, state
        self._subscriptions = self

    @contextmanager
    def fetch_context(self) -> Iterator[None]:
        yield

    async def fetched_records(self, partitions: set[TP], **_options: Any) -> dict[TP, list[Any]]:
        for topic, partition in partitions:
            self._watched.out_of_range[TopicPartition(topic, partition)] = self._state.position
        self._state.position += 20
        return {}


class NothingToAdd(Reach):
    """Knows no more than the fetch did."""

    async def spans(
        self, consumer: Any, partitions: Collection[TopicPartition], *, unread: Collection[TopicPartition] = ()
    ) -> dict[TopicPartition, Span]:
        return {}


async def test_a_fetch_that_runs_into_a_loss_hands_over_no_batch_behind_it() -> None:
    state = SimpleNamespace(position=3, has_valid_position=True)
    assignment = SimpleNamespace(tps=[PARTITION], state_value=lambda _partition: state)
    thread = ConsumerThread.__new__(ConsumerThread)
    thread._watched, thread._reach, thread._log_ends, thread._checked = FetchWatch(), NothingToAdd(None), {}, assignment
    thread.consumer = SimpleNamespace(flow_active=True)
    thread._consumer = SimpleNamespace(
        _closed=False,
        _fetcher=FetcherAtALoss(thread._watched, state),
        _subscription=SimpleNamespace(subscription=SimpleNamespace(assignment=assignment)),
    )

    with pytest.raises(OutOfReach, match="messenger-webhooks/0: Kafka no longer has offset 3"):
        await thread._fetch({PARTITION}, 0.1)
