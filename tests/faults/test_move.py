"""docs/operating.md, Three brokers: a deployment moves from its one node to a cluster, and nobody is texted again."""

import asyncio
from collections.abc import Awaitable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer, ConsumerRecord
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from operations.deployment import expected_topics
from runtime import kafka
from runtime.cluster import cluster_of
from runtime.settings import Settings
from runtime.topic_admin import apply_topics, compare_topics
from runtime.topic_reading import whole_topic
from schemas.topics import DELETION_REQUESTS, ERASURES, OUTCOMES, WEBHOOKS
from tests.faults.audited import findings, texts_of
from tests.faults.cluster import admin_of, three_brokers
from tests.faults.live import a_campaign, live_on

pytestmark = [pytest.mark.anyio, pytest.mark.faults]

# What the page says cannot be made anew.
_CARRIED = (WEBHOOKS, OUTCOMES, ERASURES, DELETION_REQUESTS)
_LEADS = 100
# The page: brokers learn of it some seconds later.
_IN_FORCE_AFTER = 5.0


@pytest.mark.parametrize("kafka_topics", [4], indirect=True)
async def test_a_deployment_moves_to_a_cluster_as_the_page_says(kafka_topics: Settings, tmp_path: Path) -> None:
    before, after = tmp_path / "before", tmp_path / "after"
    (tmp_path / "cluster").mkdir()
    campaign = a_campaign(23, leads=_LEADS)
    async with AsyncExitStack() as stack:
        before.mkdir()
        async with live_on(kafka_topics, before) as live:
            await live.post(campaign, per_second=30)
            await live.settled(len(campaign.leads))
            posted, texts = live.posted, await texts_of(live.settings.graph_url)
            assert await findings(live) == []
        cluster = await stack.enter_async_context(three_brokers(tmp_path / "cluster"))
        there = Settings(broker=cluster.broker, topic_prefix=kafka_topics.topic_prefix, partitions=4, replication=3)
        await apply_topics(cluster_of(there), expected_topics(there))
        await _copy(kafka_topics, there)
        await apply_topics(cluster_of(there), expected_topics(there))
        after.mkdir()
        async with live_on(there, after) as live:
            await live.settled(len(campaign.leads))
            again = await live.sends()
            live.posted += posted
            assert await findings(live, texts=texts) == []

        assert await compare_topics(cluster_of(there), expected_topics(there)) == []

    # The fake Meta of the cluster knows nobody, and would refuse each text.
    assert again == {}


async def _copy(old: Settings, new: Settings) -> None:
    """Record by record into the same partitions, with keys, headers and timestamps."""
    await _keep_timestamps(new)
    async with (
        kafka.consumer(cluster_of(old), group=None, client_id="copy") as consumer,
        AIOKafkaProducer(bootstrap_servers=new.broker, acks="all", enable_idempotence=True) as producer,
    ):
        for topic in _CARRIED:
            async for records in whole_topic(consumer, old.topic(topic.name), old.partitions):
                await asyncio.gather(*[await _sent(producer, new.topic(topic.name), record) for record in records])


async def _sent(producer: AIOKafkaProducer, topic: str, record: ConsumerRecord) -> Awaitable[object]:
    sent: Awaitable[object] = await producer.send(
        topic,
        record.value,
        key=record.key,
        partition=record.partition,
        timestamp_ms=record.timestamp,
        headers=list(record.headers),
    )
    return sent


async def _keep_timestamps(settings: Settings) -> None:
    changes = {"message.timestamp.type": "CreateTime"}
    stamped = [topic for topic in expected_topics(settings) if "message.timestamp.type" in topic.config]
    carried = {settings.topic(topic.name) for topic in _CARRIED}
    async with admin_of(str(settings.broker)) as admin:
        await admin.alter_configs(
            [
                ConfigResource(ConfigResourceType.TOPIC, topic.name, {**topic.settings, **changes})
                for topic in stamped
                if topic.name in carried
            ]
        )
    await asyncio.sleep(_IN_FORCE_AFTER)
