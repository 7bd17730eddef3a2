"""How far an audit takes the join to be, where the splitters of several processes report."""

from datetime import timedelta

import pytest
from aiokafka import TopicPartition

from leads.facts import Progress
from operations.audit.reading import Reading
from operations.deployment import Deployment
from runtime import kafka
from runtime.clock import from_millis, now, to_millis
from runtime.cluster import cluster_of
from runtime.settings import Settings
from schemas.codec import BUILT_IN, event_codec
from schemas.topics import EVENTS, WEBHOOKS
from streams.replay.plan import Offset, Wanted, make_plan
from tests.integration.topics import connected
from tests.reporting import Silent

pytestmark = [pytest.mark.anyio, pytest.mark.integration]


async def test_each_process_reports_of_its_own_part_of_the_log(kafka_topics: Settings) -> None:
    broker, topic, group = cluster_of(kafka_topics), kafka_topics.topic(EVENTS.name), kafka_topics.topic("leadstream")
    present = from_millis(to_millis(now()))
    until = [present - timedelta(seconds=9), present - timedelta(seconds=5)]
    places = [TopicPartition(topic, number) for number in range(kafka_topics.partitions)]
    async with connected(kafka.producer(broker, client_id="test")) as producer:
        await producer.send_and_wait(kafka_topics.topic(WEBHOOKS.name), b"{}")
        for place in places:
            for report in enumerate(until):
                value = event_codec().encode(Progress((report,)))
                await producer.send_and_wait(topic, value, partition=place.partition)
    async with connected(kafka.consumer(broker, group=group, client_id="test")) as consumer:
        consumer.assign(places)
        await consumer.commit(dict.fromkeys(places, len(until)))
    async with kafka.consumer(broker, group=None, client_id="test") as consumer:
        wanted = Wanted(begin=Offset(0), until=None, warm_up=timedelta(0))
        plan = await make_plan(consumer, kafka_topics, wanted, now(), {})
        reading = Reading(Deployment(kafka_topics, broker, BUILT_IN), consumer, plan, Silent())
        await reading.readers()
        await reading.written(plan.since)

        assert reading.joined_until() == min(until)
