"""The transcript sink on a real Kafka, against the simulated Graph API over HTTP."""

import asyncio
import json
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import httpx
import pytest

from ingest.copies import copies_of
from leads.facts import TranscriptFetched
from leads.pages import Page, Pages
from leads.records import FetchTranscript, LeadId
from messenger.client import GraphClient
from messenger.events import Answer, AppId, PageId, Psid, person_key
from runtime import kafka
from runtime.clock import now
from runtime.cluster import cluster_of
from runtime.health import Health
from runtime.kafka import partition_of
from runtime.metrics import Metrics
from runtime.reach import Reach
from runtime.settings import Settings
from schemas.codec import event_codec, transcript_request_codec
from simulator.faults import Fault
from simulator.graph import create_graph
from simulator.people import FormTexts
from simulator.threads import Line, ThreadNews
from simulator.world import GraphConfig, World
from sinks.consume import Consume, Source
from sinks.transcripts import TranscriptSink
from tests.builders import CITY, PAGE, RESELLER, SECOND
from tests.integration.topics import connected, put, records_of

pytestmark = [pytest.mark.anyio, pytest.mark.integration]

ANSWERS = (RESELLER, CITY)


@dataclass(slots=True)
class _Cluster:
    settings: Settings
    world: World

    @property
    def requests(self) -> str:
        return self.settings.topic("transcript-requests")

    def knows(self, psid: str) -> None:
        """A flow of two questions, which ended a moment ago, with a chat around it."""
        said = [(False, "Hi! A few questions."), (True, "OK")]
        for answer in ANSWERS:
            said += [(False, answer.question), (True, answer.answer)]
        started = now() - 10 * SECOND
        lines = tuple(
            Line(f"m_{psid}_{number}", by_person, text, started + number * SECOND)
            for number, (by_person, text) in enumerate(said)
        )
        news = ThreadNews(page_id=PageId(PAGE), psid=Psid(psid), owner=None, lines=lines)
        self.world.threads.learn([news], now())

    async def ask(self, *psids: str) -> None:
        codec, moment = transcript_request_codec(), now()
        for psid in psids:
            request = FetchTranscript(
                lead_id=LeadId(f"lead-{psid}"), page_id=PAGE, psid=Psid(psid), requested_at=moment, lead_at=moment
            )
            await put(self.settings, self.requests, (person_key(PAGE, psid).encode(), codec.encode(request)))

    async def facts(self) -> dict[str, tuple[Answer, ...]]:
        """The answers by lead, of as many facts as there are."""
        records = await records_of(self.settings, self.settings.topic("messenger-webhooks"))
        events = [event_codec().decode(record.value) for record in records]
        return {event.lead_id: event.answers for event in events if isinstance(event, TranscriptFetched)}

    async def facts_of(self, count: int) -> dict[str, tuple[Answer, ...]]:
        async with asyncio.timeout(30):
            while len(facts := await self.facts()) < count:  # noqa: ASYNC110 - it is Kafka that we ask
                await asyncio.sleep(0.1)
        return facts

    @asynccontextmanager
    async def sink(self) -> AsyncIterator[None]:
        """A sink that runs until the block ends, then stops as on SIGTERM."""
        stop = asyncio.Event()
        task = asyncio.create_task(self._run(stop))
        try:
            yield
        finally:
            stop.set()
            await task

    async def _run(self, stop: asyncio.Event) -> None:
        broker, group = cluster_of(self.settings), f"{self.settings.topic_prefix}transcripts"
        async with AsyncExitStack() as stack:
            producer = await stack.enter_async_context(connected(kafka.producer(broker, client_id="t", linger_ms=0)))
            consumer = await stack.enter_async_context(connected(kafka.consumer(broker, group=group, client_id="t")))
            transport = httpx.ASGITransport(create_graph(self.world, now))
            http = await stack.enter_async_context(httpx.AsyncClient(transport=transport))
            sink = TranscriptSink(
                GraphClient("http://graph.test", "v25.0", http),
                producer,
                self.settings.topic("messenger-webhooks"),
                event_codec(),
                Pages([Page(PAGE, access_token="page-token")]),
                now=now,
                fraction=lambda: 0.1,
                metrics=Metrics(),
                partitions=self.settings.partitions,
            )
            source = Source(lambda record: transcript_request_codec().decode(record.value), f"{self.requests}-dlq")
            sources = {self.requests: source}
            await Consume(
                consumer,
                producer,
                sources,
                sink,
                name="transcripts",
                metrics=Metrics(),
                health=Health(),
                reach=Reach(None),
            ).run(stop)


@pytest.fixture
def cluster(kafka_topics: Settings) -> _Cluster:
    questions = tuple(pair.question for pair in ANSWERS)
    config = GraphConfig(app_id=AppId("1"), lead_forms={PAGE: FormTexts(questions)}, page_tokens={PAGE: "page-token"})
    return _Cluster(kafka_topics, World(config, random.Random(1), lambda _: None))


async def test_each_request_becomes_a_fact_with_the_answers_to_the_known_questions(cluster: _Cluster) -> None:
    cluster.knows("7001")
    await cluster.ask("7001", "7002")

    async with cluster.sink():
        facts = await cluster.facts_of(2)

    assert facts == {"lead-7001": ANSWERS, "lead-7002": ()}


async def test_a_fact_lies_among_the_webhooks_of_its_page_and_is_stamped_by_the_broker(cluster: _Cluster) -> None:
    people = [f"70{number:02}" for number in range(5)]
    await cluster.ask(*people)

    async with cluster.sink():
        await cluster.facts_of(len(people))

    records = await records_of(cluster.settings, cluster.settings.topic("messenger-webhooks"))
    [delivery] = copies_of(json.dumps({"object": "page", "entry": [{"id": PAGE}]}).encode(), {})
    assert {(record.key, record.partition) for record in records} == {
        (delivery.key, partition_of(delivery.key, cluster.settings.partitions))
    }
    assert {record.timestamp_type for record in records} == {1}  # LogAppendTime


async def test_throttling_and_faults_of_meta_delay_an_answer_and_lose_none(cluster: _Cluster) -> None:
    faults = [Fault("throttled"), Fault("server_error"), Fault("graph_error", code=4)]
    cluster.world.faults.plan("conversations", sequence=faults, rates={})
    people = ["7001", "7002"]
    for psid in people:
        cluster.knows(psid)
    await cluster.ask(*people)

    async with cluster.sink():
        facts = await cluster.facts_of(2)

    assert set(facts.values()) == {ANSWERS}


async def test_a_restarted_sink_goes_on_behind_what_it_committed(cluster: _Cluster) -> None:
    await cluster.ask("7001")
    async with cluster.sink():
        await cluster.facts_of(1)
    await cluster.ask("7002")

    async with cluster.sink():
        await cluster.facts_of(2)

    records = await records_of(cluster.settings, cluster.settings.topic("messenger-webhooks"))
    assert len(records) == 2
