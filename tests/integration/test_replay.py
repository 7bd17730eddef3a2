"""What a replay reads of a real Kafka: places, holes, warm-up; and that it writes no live topic."""

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.records_to_delete import RecordsToDelete

from leads.pages import Page
from leads.records import Lead
from leads.rules import Policy
from messenger.events import PageId, Psid
from runtime import kafka
from runtime.clock import from_millis, now
from runtime.cluster import cluster_of
from runtime.settings import Settings
from runtime.topic_admin import apply_topics
from schemas.codec import lead_codec
from schemas.topics import LEADS
from streams.replay.plan import NothingThere, Offset, Place, Plan, Wanted, make_plan
from streams.replay.run import Rejoin, Tally, replay
from streams.replay.shadow import NotReplayed, Reached, Shadow, extent_of
from tests.builders import TARGET_APP
from tests.e2e.test_pipeline import signals_of
from tests.integration.topics import connected, put, records_of

pytestmark = [pytest.mark.anyio, pytest.mark.integration]

PAGE = PageId("542998526103632")
PEOPLE = (Psid("7001"), Psid("7002"))


def policy_of(page_id: PageId) -> Policy:
    return Policy(Page(page_id, target_app=TARGET_APP), ())


async def send(settings: Settings, *names: str, people: Sequence[Psid] = PEOPLE) -> None:
    """These signals of each person, all received by now."""
    for psid in people:
        signals = signals_of(psid, now())
        key = PAGE.encode()
        await put(settings, settings.topic("messenger-webhooks"), *((key, signals[name]) for name in names))


async def a_moment(settings: Settings) -> datetime:
    """A time that is after the receipt of all that was sent, and before that of all that will be."""
    raw = await records_of(settings, settings.topic("messenger-webhooks"))
    moment = from_millis(max(record.timestamp for record in raw) + 1)
    await asyncio.sleep(0.01)
    return moment


async def plan_of(settings: Settings, begin: Place, until: Place | None = None, **more: object) -> Plan:
    wanted = Wanted(begin=begin, until=until, **{"warm_up": timedelta(days=30), **more})  # type: ignore[arg-type]
    async with connected(kafka.consumer(cluster_of(settings), group=None, client_id="test")) as consumer:
        return await make_plan(consumer, settings, wanted, now() + timedelta(seconds=1))


async def replayed(settings: Settings, plan: Plan, name: str) -> tuple[list[Lead], Tally]:
    """The revisions that a replay writes."""
    broker, shadow = cluster_of(settings), Shadow(settings, name)
    await apply_topics(broker, shadow.topics)
    rejoin = Rejoin(policy_of, {}, partitions=settings.partitions, page_id=plan.wanted.page_id, psid=plan.wanted.psid)
    async with (
        connected(kafka.consumer(broker, group=None, client_id="test")) as consumer,
        connected(kafka.producer(broker, client_id="test")) as producer,
    ):
        tally = await replay(plan, rejoin, consumer, producer, shadow.topic, lambda _: None)
    records = await records_of(settings, shadow.topic(LEADS))
    return [lead_codec().decode(record.value) for record in records], tally


async def test_a_lead_that_straddles_the_start_is_whole_and_its_past_is_not_written(kafka_topics: Settings) -> None:
    await send(kafka_topics, "handover", "summary")
    start = await a_moment(kafka_topics)
    await send(kafka_topics, "referral")

    leads, _ = await replayed(kafka_topics, await plan_of(kafka_topics, start), "straddle")

    assert {(lead.psid, lead.revision, lead.answers_source) for lead in leads} == {
        (psid, 3, "referral") for psid in PEOPLE
    }


async def test_without_a_warm_up_the_lead_begins_at_the_start(kafka_topics: Settings) -> None:
    await send(kafka_topics, "handover", "summary")
    start = await a_moment(kafka_topics)
    await send(kafka_topics, "referral")

    leads, _ = await replayed(kafka_topics, await plan_of(kafka_topics, start, warm_up=timedelta(0)), "cold")

    assert {lead.revision for lead in leads} == {1}


async def test_the_end_is_left_out(kafka_topics: Settings) -> None:
    await send(kafka_topics, "handover")
    end = await a_moment(kafka_topics)
    await send(kafka_topics, "referral")

    leads, tally = await replayed(kafka_topics, await plan_of(kafka_topics, Offset(0), end), "first-half")

    assert {lead.revision for lead in leads} == {1}
    assert tally.webhooks == len(PEOPLE)


async def test_a_replay_of_one_person_has_no_other(kafka_topics: Settings) -> None:
    await send(kafka_topics, "handover")

    leads, _ = await replayed(kafka_topics, await plan_of(kafka_topics, Offset(0), psid=PEOPLE[0]), "one")

    assert {lead.psid for lead in leads} == {PEOPLE[0]}


async def test_no_live_topic_is_written(kafka_topics: Settings) -> None:
    await send(kafka_topics, "handover", "referral", "summary")

    await replayed(kafka_topics, await plan_of(kafka_topics, Offset(0)), "apart")

    for topic in ("messenger-events", "leads", "followup-commands", "transcript-requests"):
        assert await records_of(kafka_topics, kafka_topics.topic(topic)) == []


async def test_an_offset_of_one_partition_is_the_time_of_its_record(kafka_topics: Settings) -> None:
    await send(kafka_topics, "handover", "referral", "summary")
    raw = await records_of(kafka_topics, kafka_topics.topic("messenger-webhooks"))
    last = max(raw, key=lambda record: record.offset)

    plan = await plan_of(kafka_topics, Offset(last.offset, last.partition))

    assert plan.since == from_millis(last.timestamp)


async def test_records_that_are_gone_are_named(kafka_topics: Settings) -> None:
    await send(kafka_topics, "handover", "referral", "summary", people=PEOPLE[:1])
    [partition] = {
        record.partition for record in await records_of(kafka_topics, kafka_topics.topic("messenger-webhooks"))
    }
    emptied = TopicPartition(kafka_topics.topic("messenger-webhooks"), partition)
    admin = AIOKafkaAdminClient(bootstrap_servers=str(kafka_topics.broker))
    await admin.start()
    await admin.delete_records({emptied: RecordsToDelete(before_offset=2)})
    await admin.close()

    plan = await plan_of(kafka_topics, Offset(0))

    assert [hole.partition for hole in plan.holes] == [emptied]
    assert plan.spans[emptied] == range(2, 3)


@pytest.mark.parametrize("place", [Offset(0), Offset(7, 1)])
async def test_an_offset_that_is_not_there_is_refused(kafka_topics: Settings, place: Place) -> None:
    with pytest.raises(NothingThere, match=f"no offset {place.number}"):  # type: ignore[union-attr]
        await plan_of(kafka_topics, place)


async def test_a_replay_that_would_end_before_it_begins_is_refused(kafka_topics: Settings) -> None:
    await send(kafka_topics, "handover")

    with pytest.raises(NothingThere, match="end before it begins"):
        await plan_of(kafka_topics, now(), now() - timedelta(hours=1))


async def test_only_a_finished_replay_can_be_compared(kafka_topics: Settings) -> None:
    await send(kafka_topics, "handover")
    plan, shadow = await plan_of(kafka_topics, Offset(0)), Shadow(kafka_topics, "half")
    broker = cluster_of(kafka_topics)
    await apply_topics(broker, shadow.topics)
    async with (
        connected(kafka.consumer(broker, group=None, client_id="test")) as consumer,
        connected(kafka.producer(broker, client_id="test")) as producer,
    ):
        with pytest.raises(NotReplayed, match="has not finished"):
            await shadow.extent(consumer)
        for read in (0, 1):
            await shadow.note(producer, Reached(read, 3))
        assert await shadow.standing(consumer) == (Reached(1, 3), None)
        await shadow.finish(producer, extent_of(plan))

        assert await shadow.extent(consumer) == extent_of(plan)
