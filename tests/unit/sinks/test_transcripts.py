"""What the transcript sink does with each request, in virtual time."""

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import pytest
from aiokafka import TopicPartition

from leads.erasures import NOBODY, Erasures
from leads.facts import TranscriptFetched
from leads.pages import Page, Pages
from leads.records import FetchTranscript, LeadId
from messenger.errors import (
    GraphError,
    InvalidRequest,
    NotSent,
    OutcomeUnknown,
    PageBlocked,
    Throttled,
    TooMuchData,
)
from messenger.events import Answer, PageId, Psid, person_key
from messenger.graph import GraphRequest, GraphResponse
from runtime.health import Health
from runtime.metrics import Metrics
from runtime.reach import Reach
from runtime.tracing import OFF, Tracing
from schemas.codec import event_codec, transcript_request_codec
from sinks.consume import Consume, SinkCrashed, Source
from sinks.transcripts import TranscriptSink
from tests.builders import a_register
from tests.unit.sinks.fakes import NOON, PAGE, Clock, Crash, FakeConsumer, FakeKafka, FakeProducer, Spans

pytestmark = pytest.mark.anyio

REQUESTS = TopicPartition("transcript-requests", 0)
OTHER_PAGE = PageId("617203344871950")
QUESTION, ANSWER = "What city is your store located?", "Menlo Park"


@dataclass
class Conversations:
    """Shows every person one question and one answer; `faults` are raised by the next calls of an endpoint."""

    clock: Clock
    faults: dict[str, list[GraphError]] = field(default_factory=dict)
    blocked: set[str] = field(default_factory=set)
    silent: set[str] = field(default_factory=set)
    questions: tuple[str, ...] = ()
    calls: list[tuple[datetime, str, str]] = field(default_factory=list)
    form_limits: list[str] = field(default_factory=list)
    lost_cursor: bool = False

    async def call(self, request: GraphRequest, token: str, **_: object) -> GraphResponse:
        page, endpoint = request.path.split("/")
        if endpoint == "messenger_lead_forms":
            self.form_limits.append(request.query["limit"])
        self.calls.append((self.clock(), page, endpoint))
        await asyncio.sleep(0)
        if page in self.blocked:
            raise Throttled("too many")
        if self.faults.get(endpoint):
            raise self.faults[endpoint].pop(0)
        return GraphResponse(self._forms(request) if endpoint != "conversations" else self._talk(page, request), None)

    def of(self, endpoint: str, page: str = PAGE) -> list[datetime]:
        return [at for at, of_page, name in self.calls if (of_page, name) == (page, endpoint)]

    def _talk(self, page: str, request: GraphRequest) -> Mapping[str, Any]:
        psid = request.query["user_id"]
        said = [] if psid in self.silent else [(psid, f"{ANSWER} {psid}"), (page, QUESTION)]
        shown = [
            {"id": f"m_{who}", "from": {"id": who}, "message": text, "created_time": f"{NOON:%Y-%m-%dT%H:%M:%S}+0000"}
            for who, text in said
        ]
        asked = re.search(r"limit\((\d+)\)(?:\.after\((\d+)\))?", request.query["fields"])
        assert asked is not None
        limit, start = int(asked[1]), int(asked[2] or 0)
        cursors = {} if self.lost_cursor else {"after": str(start + limit)}
        more = {"paging": {"cursors": cursors, "next": "x"}} if self.lost_cursor or start + limit < len(shown) else {}
        return {"data": [{"messages": {"data": shown[start : start + limit], **more}}]}

    def _forms(self, request: GraphRequest) -> Mapping[str, Any]:
        """One form with one question a page of the list."""
        number = int(request.query.get("after", 0))
        steps = [{"step_type": "QUESTION", "message": question} for question in self.questions[number : number + 1]]
        paging = {"cursors": {"after": str(number + 1)}, "next": "https://graph.test/?access_token=secret"}
        return {"data": [{"step_list": steps}], **({"paging": paging} if number + 1 < len(self.questions) else {})}


class _Producer(FakeProducer):
    """Can fail before or after a fact is durable."""

    async def send_and_wait(self, topic: str, value: bytes, *, key: bytes | None, headers: Any = ()) -> None:
        self.kafka.burn("before fact")
        await super().send_and_wait(topic, value, key=key, headers=headers)
        self.kafka.burn("after fact")


@dataclass
class TranscriptWorld:
    kafka: FakeKafka = field(default_factory=FakeKafka)
    clock: Clock = field(default_factory=Clock)
    metrics: Metrics = field(default_factory=Metrics)
    erasures: Erasures = NOBODY
    tracing: Tracing = OFF
    graph: Conversations = field(init=False)
    pages: Pages = field(
        default_factory=lambda: Pages([Page(page_id, access_token="page-token") for page_id in (PAGE, OTHER_PAGE)])
    )

    def __post_init__(self) -> None:
        self.graph = Conversations(self.clock)

    def request(self, psid: str, page: PageId = PAGE, lead: str | None = None) -> None:
        name = LeadId(lead or f"lead-of-{psid}")
        request = FetchTranscript(lead_id=name, page_id=page, psid=Psid(psid), requested_at=NOON, lead_at=NOON)
        key = person_key(page, psid).encode()
        self.kafka.put(REQUESTS.topic, 0, key, transcript_request_codec().encode(request))

    async def settle_all(self, most_reads: int = 5000) -> list[TranscriptFetched]:
        """Run a fresh sink until every request is committed, and give all facts."""
        stop = asyncio.Event()
        consumer = FakeConsumer(self.kafka, self.clock, REQUESTS)

        async def look() -> None:
            if self.kafka.committed.get(REQUESTS, 0) == len(self.kafka.topics[REQUESTS]):
                stop.set()

        consumer.script = dict.fromkeys(range(2, most_reads), look)
        await self._consume(consumer).run(stop)
        return self.facts()

    def facts(self) -> list[TranscriptFetched]:
        stored = self.kafka.topics[TopicPartition("messenger-webhooks", 0)]
        events = [event_codec().decode(record.value) for record in stored]
        return [event for event in events if isinstance(event, TranscriptFetched)]

    def counted(self, result: str) -> float:
        value = self.metrics.registry.get_sample_value("leadstream_transcripts_fetched_total", {"result": result})
        return value or 0.0

    def _consume(self, consumer: FakeConsumer) -> Consume[FetchTranscript]:
        producer = _Producer(self.kafka)
        sink = TranscriptSink(
            self.graph,
            producer,
            "messenger-webhooks",
            event_codec(),
            self.pages,
            now=self.clock,
            fraction=lambda: 1.0,
            metrics=self.metrics,
            partitions=1,
            erasures=self.erasures,
            tracing=self.tracing,
        )
        source = Source(lambda record: transcript_request_codec().decode(record.value), "transcript-requests-dlq")
        return Consume(
            consumer,
            producer,
            {REQUESTS.topic: source},
            sink,
            name="transcripts",
            metrics=self.metrics,
            health=Health(),
            reach=Reach(None),
            tracing=self.tracing,
        )


async def test_a_fact_names_the_span_that_wrote_it_which_is_linked_to_that_of_its_request() -> None:
    spans = Spans()
    world = TranscriptWorld(tracing=spans)
    for psid in ("7001", "7002"):
        world.request(psid)

    await world.settle_all()

    assert spans.made == [("sink transcripts", []), ("transcript", [b"1"]), ("transcript", [b"1"])]
    stored = world.kafka.topics[TopicPartition("messenger-webhooks", 0)]
    assert [dict(record.headers)["traceparent"] for record in stored] == [b"2", b"3"]


async def test_a_request_becomes_one_fact_that_names_it() -> None:
    world = TranscriptWorld()
    world.request("7001")

    [fact] = await world.settle_all()

    assert fact.answers == (Answer(QUESTION, f"{ANSWER} 7001"),)
    assert fact.event_id == "transcript:lead-of-7001"
    assert world.kafka.effects == ["to messenger-webhooks", "commit"]
    assert world.counted("answers") == 1


async def test_a_conversation_without_answers_is_a_fact_too() -> None:
    world = TranscriptWorld()
    world.graph.silent.add("7001")
    world.request("7001")

    [fact] = await world.settle_all()

    assert fact.answers == ()
    assert world.counted("no_answers") == 1


@pytest.mark.parametrize("when", ["before fact", "after fact", "before commit", "after commit"])
async def test_a_crash_loses_no_request(when: str) -> None:
    world = TranscriptWorld()
    world.request("7001")
    world.request("7002")
    world.kafka.fuse = when
    with pytest.raises((Crash, SinkCrashed)):
        await world.settle_all()

    facts = await world.settle_all()

    assert {fact.lead_id for fact in facts} == {"lead-of-7001", "lead-of-7002"}
    assert len({(fact.lead_id, fact.origin, fact.answers) for fact in facts}) == 2


@pytest.mark.parametrize("fault", [NotSent("x"), Throttled("x"), OutcomeUnknown("x")])
async def test_what_may_work_later_is_tried_again(fault: GraphError) -> None:
    world = TranscriptWorld()
    world.graph.faults["conversations"] = [fault]
    world.request("7001")

    [fact] = await world.settle_all()

    assert fact.answers
    assert len(world.graph.of("conversations")) == 2


async def test_meta_is_not_called_before_the_time_that_it_names() -> None:
    world = TranscriptWorld()
    world.graph.faults["conversations"] = [Throttled("x", regain_after=timedelta(minutes=5))]
    world.request("7001")

    await world.settle_all()

    first, second = world.graph.of("conversations")
    assert second - first >= timedelta(minutes=5)


async def test_what_keeps_failing_is_given_up_and_the_next_request_goes_on() -> None:
    world = TranscriptWorld()
    world.graph.faults["conversations"] = [NotSent("x") for _ in range(8)]
    world.request("7001")
    world.request("7002")

    facts = await world.settle_all()

    assert [bool(fact.answers) for fact in facts] == [False, True]
    assert world.counted("refused") == 1


@pytest.mark.parametrize("fault", [PageBlocked("x"), InvalidRequest("x")])
async def test_what_meta_refuses_for_good_is_not_tried_again(fault: GraphError) -> None:
    world = TranscriptWorld()
    world.graph.faults["conversations"] = [fault]
    world.request("7001")

    [fact] = await world.settle_all()

    assert fact.answers == ()
    assert len(world.graph.of("conversations")) == 1


async def test_a_page_without_a_token_is_not_called() -> None:
    world = TranscriptWorld(pages=Pages())
    world.request("7001")

    [fact] = await world.settle_all()

    assert fact.answers == ()
    assert world.graph.calls == []


async def test_a_page_is_called_less_than_twice_a_second() -> None:
    world = TranscriptWorld()
    for number in range(12):
        world.request(f"70{number:02}")

    await world.settle_all()

    moments = world.graph.of("conversations")
    within = [sum(start <= moment < start + timedelta(seconds=1) for moment in moments) for start in moments]
    assert max(within) <= 2


async def test_no_page_waits_for_another() -> None:
    world = TranscriptWorld()
    world.graph.blocked.add(PAGE)
    world.request("7001", PAGE)
    world.request("7002", OTHER_PAGE)

    facts = await world.settle_all()

    assert [fact.page_id for fact in facts] == [OTHER_PAGE, PAGE]


async def test_facts_of_one_person_come_in_the_order_of_their_requests() -> None:
    world = TranscriptWorld()
    world.graph.faults["conversations"] = [NotSent("x")]
    world.request("7001", lead="first")
    world.request("7001", lead="second")

    facts = await world.settle_all()

    assert [fact.lead_id for fact in facts] == ["first", "second"]


async def test_too_much_data_is_read_in_smaller_pages_each_at_its_turn() -> None:
    world = TranscriptWorld()
    world.graph.faults["conversations"] = [TooMuchData("1", code=1)] * 4
    world.request("7001")

    [fact] = await world.settle_all()

    assert fact.answers == (Answer(QUESTION, f"{ANSWER} 7001"),)
    moments = world.graph.of("conversations")
    assert len(moments) == 6, "20, 10, 5, 2 and twice 1 message"
    assert max(sum(start <= moment < start + timedelta(seconds=1) for moment in moments) for start in moments) <= 2


async def test_a_conversation_that_leads_nowhere_has_the_answers_that_were_read() -> None:
    world = TranscriptWorld()
    world.graph.faults["conversations"] = [TooMuchData("1", code=1)]
    world.graph.lost_cursor = True
    world.request("7001")

    [fact] = await world.settle_all()

    assert fact.answers
    assert len(world.graph.of("conversations")) == 2


async def test_forms_that_are_too_much_data_are_asked_for_in_smaller_pages() -> None:
    world = TranscriptWorld()
    world.graph.questions = (QUESTION,)
    world.graph.faults["messenger_lead_forms"] = [TooMuchData("1", code=1)]
    world.request("7001")

    await world.settle_all()

    assert world.graph.form_limits == ["25", "12"]


async def test_questions_of_all_lead_forms_are_read_once_an_hour() -> None:
    world = TranscriptWorld()
    world.graph.questions = ("Your name?", QUESTION)
    for number in range(5):
        world.request(f"700{number}")

    facts = await world.settle_all()

    assert all(fact.answers for fact in facts)
    assert len(world.graph.of("messenger_lead_forms")) == 2


async def test_forms_that_may_not_be_read_are_done_without() -> None:
    world = TranscriptWorld()
    world.graph.faults["messenger_lead_forms"] = [InvalidRequest("x")]
    world.request("7001")

    [fact] = await world.settle_all()

    assert fact.answers


async def test_undecodable_requests_go_to_the_dead_letters() -> None:
    world = TranscriptWorld()
    world.kafka.put(REQUESTS.topic, 0, b"p:1", b"junk")
    world.request("7001")

    facts = await world.settle_all()

    assert len(facts) == 1
    assert [place.value for place in world.kafka.topics[TopicPartition("transcript-requests-dlq", 0)]] == [b"junk"]


async def test_of_somebody_erased_nothing_is_asked_and_no_fact_is_written() -> None:
    world = TranscriptWorld(erasures=a_register(NOON, Psid("7001"), PAGE))
    world.request("7001")
    world.request("7002")

    facts = await world.settle_all()

    assert [fact.psid for fact in facts] == ["7002"]
    assert world.counted("erased") == 1
    assert len(world.graph.of("conversations")) == 1
