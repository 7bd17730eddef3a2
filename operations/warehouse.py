"""The warehouse looked after: its lag behind Kafka, a vacuum, and a rebuild beside it up to the same offsets."""

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping

from aiokafka import TopicPartition
from aiokafka.errors import KafkaConnectionError

from operations.deployment import Deployment, find_broker, require_broker
from operations.reporting import OperationError, Progress
from runtime import kafka
from runtime.consumer_groups import is_running
from runtime.settings import Settings
from sinks.warehouse.postgres.connection import is_server
from sinks.warehouse.rebuild import Comparison, Replacement, compare, fill, replacement_of
from sinks.warehouse.status import Status, status_of
from sinks.warehouse.tables import tables_by_topic


def status_and_lag(settings: Settings) -> tuple[Status, dict[str, int] | None]:
    """The status of the warehouse and its lag by topic, which is None where no Kafka answers.

    Raises `Mendable`.
    """
    partitions = _partitions(settings)
    ends = asyncio.run(_ends(settings, partitions))
    status = status_of(settings.warehouse, partitions)
    if ends is None:
        return status, None
    return status, by_topic({partition: end - status.offsets.get(partition, 0) for partition, end in ends.items()})


def by_topic(offsets: Mapping[TopicPartition, int]) -> dict[str, int]:
    """The sum over the partitions of each topic."""
    sums = Counter[str]()
    for partition, offset in offsets.items():
        sums[partition.topic] += offset
    return dict(sums)


async def _ends(settings: Settings, partitions: list[TopicPartition]) -> dict[TopicPartition, int] | None:
    broker = find_broker(settings)
    if broker is None:
        return None
    try:
        async with kafka.consumer(broker, group=None, client_id="leadstream-status") as reader:
            topics = await reader.topics()
            there = [partition for partition in partitions if partition.topic in topics]
            ends: dict[TopicPartition, int] = await reader.end_offsets(there)
            return ends
    except KafkaConnectionError:
        return None


def require_vacuum(settings: Settings) -> None:
    """Raises `OperationError` unless `vacuum_now` may be called."""
    if is_server(settings.warehouse):
        raise OperationError("PostgreSQL vacuums by itself: nothing is left to remove here")
    asyncio.run(_require_no_sink(Deployment(settings, require_broker(settings))))


async def _require_no_sink(deployment: Deployment) -> None:
    if await is_running(deployment.broker, f"{deployment.settings.topic_prefix}leadstream-warehouse"):
        raise OperationError("a warehouse sink is running: stop it first")


def rebuild(deployment: Deployment, progress: Progress, show: Callable[[Comparison], None], *, swap: bool) -> str:
    """Fill a new warehouse, compare it with the old one, and with `swap` put it in the old one's place.

    Returns the place of the rebuilt warehouse, or after a swap that of the old one. Raises `Mendable`, also where the
    two differ.
    """
    place = replacement_of(deployment.settings.warehouse)
    place.require_room()
    comparisons = asyncio.run(_rebuild(deployment, place, progress))
    for comparison in comparisons:
        show(comparison)
    differing = [comparison.table for comparison in comparisons if comparison.same is False]
    if differing:
        raise OperationError(f"{', '.join(differing)}: not equal; the rebuilt warehouse is {place.new}")
    if swap:
        place.swap()
    return place.aside if swap else place.new


async def _rebuild(deployment: Deployment, place: Replacement, progress: Progress) -> list[Comparison]:
    await _require_no_sink(deployment)
    settings = deployment.settings
    old = status_of(settings.warehouse, _partitions(settings))
    if not old.offsets:
        raise OperationError("the warehouse holds nothing of these topics")
    with progress.count("records read") as on_read:
        await fill(settings, deployment.broker, deployment.ids, place, old, on_read)
    return await asyncio.to_thread(compare, place)


def _partitions(settings: Settings) -> list[TopicPartition]:
    return [
        TopicPartition(topic, number)
        for topic in tables_by_topic(settings.topic)
        for number in range(settings.partitions)
    ]
