"""leadstream on a cluster of three brokers: what is promised holds while one of them is slow, or dead."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import NewTopic

from leads.facts import JoinEvent, Progress
from operations.deployment import expected_topics
from runtime import kafka
from runtime.clock import from_millis
from runtime.cluster import cluster_of
from runtime.settings import Settings
from runtime.topic_admin import apply_topics, compare_topics
from runtime.topic_reading import whole_topic
from schemas.codec import event_codec
from schemas.topics import EVENTS, WEBHOOKS
from tests.e2e.recording import Recording
from tests.faults.audited import findings
from tests.faults.cluster import Cluster, admin_of, three_brokers
from tests.faults.front_door import a_body
from tests.faults.lab import eventually
from tests.faults.live import a_campaign, live_on

pytestmark = [pytest.mark.anyio, pytest.mark.faults]

# Longer than any pause between two reports of progress, and shorter than Kafka has a node that stands still in sync.
_FROZEN_FOR = 4.0
_LEADS = 600


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    home = tmp_path / "cluster"
    home.mkdir()
    async with three_brokers(home) as cluster:
        yield cluster


async def test_progress_never_passes_a_record_that_a_slow_follower_keeps_from_consumers(
    cluster: Cluster, tmp_path: Path
) -> None:
    """The leader has stamped it, but nobody may read it until the follower has it too: the log has not ended there."""
    settings = Settings(broker=cluster.broker, partitions=1)
    await _create_topics(cluster, settings)
    async with AsyncExitStack() as stack:
        producer = await stack.enter_async_context(AIOKafkaProducer(bootstrap_servers=settings.broker, acks=1))
        recording = await Recording.on(settings, tmp_path, stack)
        recording.start("streams")
        await _until_progress_passes(settings, await _stamped(producer, a_body(1)))

        cluster.freeze(2)
        try:
            stamp = await _stamped(producer, a_body(2))
            await asyncio.sleep(_FROZEN_FOR)
        finally:
            cluster.thaw(2)
        await _until_progress_passes(settings, stamp)

        events = await _events(settings)

    assert sum(not isinstance(event, Progress) for event in events) == 2
    assert _late(events) == []


async def test_two_brokers_die_one_after_the_other_under_load(cluster: Cluster, tmp_path: Path) -> None:
    settings = Settings(broker=cluster.broker, partitions=4, replication=3)
    campaign = a_campaign(22, leads=_LEADS)
    await apply_topics(cluster_of(settings), expected_topics(settings))
    async with live_on(settings, tmp_path) as live:
        supervising = asyncio.create_task(live.restart_ended())
        posting = asyncio.create_task(live.post(campaign, per_second=20))
        for node in (1, 2):
            await asyncio.sleep(5)
            cluster.kill(node)
            # Kafka misses a node after nine seconds; until then nobody leads its partitions.
            await asyncio.sleep(15)
            cluster.start(node)
            await cluster.ready()
        await posting
        observer = await live.settled(len(campaign.leads))
        supervising.cancel()

        assert len(observer.leads) == len(campaign.leads)
        assert await findings(live) == []


async def test_an_acknowledged_webhook_has_two_copies_or_is_refused(cluster: Cluster) -> None:
    settings = Settings(broker=cluster.broker, partitions=1, replication=3)
    await apply_topics(cluster_of(settings), expected_topics(settings))
    await cluster.ready()
    async with kafka.producer(cluster_of(settings), client_id="test") as producer:
        await producer.send_and_wait(WEBHOOKS.name, b"with three copies")
        cluster.kill(1)
        await cluster.ready()
        await producer.send_and_wait(WEBHOOKS.name, b"with two")
        cluster.kill(2)

        with pytest.raises(TimeoutError):
            async with asyncio.timeout(20):
                await producer.send_and_wait(WEBHOOKS.name, b"with one")

        cluster.start(1)
        await cluster.ready()
        assert await compare_topics(cluster_of(settings), expected_topics(settings)) == []


async def _create_topics(cluster: Cluster, settings: Settings) -> None:
    """The raw topic on nodes 1 and 2, everything else on node 1, which goes on writing while node 2 stands still."""
    nodes = {settings.topic(WEBHOOKS.name): [1, 2]}
    topics = [
        NewTopic(
            topic.name, -1, -1, replica_assignments={0: nodes.get(topic.name, [1])}, topic_configs=dict(topic.config)
        )
        for topic in expected_topics(settings)
    ]
    async with admin_of(cluster.broker) as admin:
        await admin.create_topics(topics)
    await cluster.ready()


async def _stamped(producer: AIOKafkaProducer, body: bytes) -> datetime:
    """When the leader took the record in; its follower may not have it yet."""
    return from_millis((await producer.send_and_wait(WEBHOOKS.name, body)).timestamp)


async def _until_progress_passes(settings: Settings, moment: datetime) -> None:
    await eventually(lambda: _has_passed(settings, moment))


async def _has_passed(settings: Settings, moment: datetime) -> bool:
    said = [event for event in await _events(settings) if isinstance(event, Progress)]
    return any(dict(record.received_until)[0] > moment for record in said)


async def _events(settings: Settings) -> list[JoinEvent | Progress]:
    async with kafka.consumer(cluster_of(settings), group=None, client_id="test") as consumer:
        runs = whole_topic(consumer, settings.topic(EVENTS.name), settings.partitions)
        events = [event_codec().decode(record.value) async for records in runs for record in records]
    return [event for event in events if event is not None]


def _late(events: Sequence[JoinEvent | Progress]) -> list[timedelta]:
    """By how much each event was received before a time up to which everything was said to be in."""
    said: datetime | None = None
    late = []
    for event in events:
        if isinstance(event, Progress):
            said = dict(event.received_until)[0]
        elif said is not None and event.received_at < said:
            late.append(said - event.received_at)
    return late
