"""Readiness and lag of a sink follow what Kafka answers now."""

import asyncio
from collections.abc import Collection
from contextlib import suppress
from datetime import timedelta
from math import isnan
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import TopicAuthorizationFailedError

from runtime.clock import now
from runtime.health import Health
from runtime.lateness import Lateness
from runtime.metrics import Metrics
from sinks.kafka_watch import watch_kafka

pytestmark = pytest.mark.anyio

ONE = TopicPartition("orders", 0)


class _Kafka:
    """A consumer of which `ask` decides the answers."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.assigned = {ONE}
        self.raising: Exception | None = None
        self.is_silent = False

    async def _answer(self, question: str) -> None:
        self.asked.append(question)
        if self.is_silent:
            await asyncio.Event().wait()
        if self.raising is not None:
            raise self.raising

    def assignment(self) -> set[TopicPartition]:
        return self.assigned

    async def topics(self) -> set[str]:
        await self._answer("topics")
        return set()

    async def committed(self, partition: TopicPartition) -> int:
        await self._answer("coordinator")
        return 0

    async def end_offsets(self, partitions: Collection[TopicPartition]) -> dict[TopicPartition, int]:
        await self._answer("leaders")
        return dict.fromkeys(partitions, 7)


class _Told(Health):
    """Knows when something is reported."""

    def __init__(self) -> None:
        super().__init__()
        self.told = asyncio.Event()

    def report(self, part: str, *, ready: bool, seen: str = "") -> None:
        super().report(part, ready=ready, seen=seen)
        self.told.set()


class _Watched:
    def __init__(self) -> None:
        self.kafka, self.metrics, self.health = _Kafka(), Metrics(), _Told()
        self.positions = {ONE: 4}
        self.lateness = Lateness()

    async def ask_once(self) -> None:
        consumer: Any = self.kafka
        known = self.positions, self.lateness
        watch = watch_kafka(consumer, *known, metrics=self.metrics, health=self.health, every=3600, within=0.01)
        watching = asyncio.create_task(watch)
        self.health.told.clear()
        await self.health.told.wait()
        watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching

    def lag(self, unit: str = "") -> float | None:
        labels = {"topic": ONE.topic, "partition": str(ONE.partition)}
        return self.metrics.registry.get_sample_value(f"leadstream_consumer_lag{unit}", labels)


async def test_leaders_and_coordinator_are_asked_and_the_lag_is_what_is_left() -> None:
    watched = _Watched()

    await watched.ask_once()

    assert watched.kafka.asked == ["coordinator", "leaders"]
    assert watched.health.parts == {"kafka": (True, "")}
    assert watched.lag() == 3


async def test_what_is_left_is_as_old_as_the_last_record_that_was_read() -> None:
    watched = _Watched()
    watched.lateness.note(ONE, now() - timedelta(hours=1))

    await watched.ask_once()

    assert (watched.lag("_seconds") or 0) >= 3600


async def test_nothing_is_old_where_nothing_is_left() -> None:
    watched = _Watched()
    watched.lateness.note(ONE, now() - timedelta(hours=1))
    watched.positions = {ONE: 7}

    await watched.ask_once()

    assert watched.lag("_seconds") == 0


async def test_a_sink_that_waits_for_its_warehouse_is_late_all_the_same() -> None:
    watched = _Watched()
    watched.lateness.note(ONE, now() - timedelta(hours=1))
    watched.positions = {}

    await watched.ask_once()

    assert watched.lag() is None
    assert (watched.lag("_seconds") or 0) >= 3600


async def test_without_partitions_kafka_is_asked_all_the_same() -> None:
    watched = _Watched()
    watched.positions = {}

    await watched.ask_once()

    assert watched.kafka.asked == ["topics"]
    assert watched.health.ready


async def test_silence_makes_it_red_and_the_lag_unknown_until_an_answer_comes() -> None:
    watched = _Watched()
    await watched.ask_once()
    watched.kafka.is_silent = True

    await watched.ask_once()

    assert watched.health.parts == {"kafka": (False, "no answer within 0.01 s")}
    assert isnan(watched.lag() or 0)
    assert isnan(watched.lag("_seconds") or 0)

    watched.kafka.is_silent = False
    await watched.ask_once()

    assert watched.health.ready
    assert watched.lag() == 3


async def test_a_refusal_is_named() -> None:
    watched = _Watched()
    watched.kafka.raising = TopicAuthorizationFailedError("planted")

    await watched.ask_once()

    assert watched.health.parts == {"kafka": (False, "refuses: TopicAuthorizationFailedError")}


async def test_a_partition_that_went_to_another_sink_has_no_lag_here() -> None:
    watched = _Watched()
    await watched.ask_once()
    watched.positions, watched.kafka.assigned = {}, set()

    await watched.ask_once()

    assert watched.lag() is watched.lag("_seconds") is None
