"""Transcript requests → Conversations API → `TranscriptFetched`, the fact that the join and every replay read."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from datetime import datetime, timedelta
from typing import Any

from aiokafka import TopicPartition

from leads.erasures import NOBODY, Erasures
from leads.facts import ITSELF, JoinEvent, Progress, TranscriptFetched
from leads.pages import Page, Pages
from leads.records import FetchTranscript
from messenger.errors import BrokenList, GraphError, OutcomeUnknown, Retryable, Throttled, TooMuchData
from messenger.events import Answer, PageId
from messenger.graph import (
    LIST_PAGE,
    ConversationMessage,
    GraphRequest,
    GraphResponse,
    conversation_messages,
    conversation_page,
    conversation_request,
    lead_form_questions,
    lead_forms_request,
)
from messenger.lead_flow import parse_transcript
from messenger.limits import CONVERSATION_DETAILS_MAX
from messenger.paging import Paging
from runtime.clock import uptime
from runtime.losses import Span
from runtime.metrics import Metrics
from runtime.plausible import PlausibleTime
from runtime.tracing import OFF, Tracing
from schemas.codec import Codec
from schemas.fact_record import fact_record
from sinks.consume import Received
from sinks.record_faults import on_record
from sinks.send.courier import Graph
from sinks.send.pace import Pace, pause_after, share_of

# Two a second are allowed, and the send sink looks up doubtful messages with the same call:
# https://developers.facebook.com/documentation/business-messaging/messenger-platform/overview/rate-limiting
_CALLS_PER_SECOND = 1.5
_TRIES_MAX = 8
_HELD_PER_PARTITION = 1000
_FORMS_STAY_KNOWN = timedelta(hours=1)
_FORM_PAGES_MAX = 20

EventCodec = Codec[JoinEvent | Progress | None]


@dataclass(slots=True)
class _Line:
    """The requests about one Page, oldest first; only the first is worked on, in the order of each person."""

    # Each with the span in which it was read.
    requests: deque[tuple[Received[FetchTranscript], bytes | None]] = field(default_factory=deque)
    task: asyncio.Task[None] | None = None
    failures: int = 0
    ready_at: datetime | None = None
    questions: tuple[str, ...] = ()
    questions_read_at: datetime | None = None
    messages: tuple[ConversationMessage, ...] = ()
    are_read: bool = False
    paging: Paging = field(default_factory=lambda: Paging(CONVERSATION_DETAILS_MAX))

    @property
    def first(self) -> Received[FetchTranscript]:
        return self.requests[0][0]


@dataclass(slots=True)
class TranscriptSink:
    """A stage that answers each request with one fact, whose answers are empty when the conversation shows none.

    The fact is durable before the request's offset may be committed. No Page waits for another Page. `partitions` is
    how many the topic has: a worker takes the share of a Page's rate that its partitions are of them. `fraction` gives
    numbers from 0 to 1. For an erased person nothing is asked and no fact is written: `erasures` is the register, and
    `catch_up` brings it up to date.
    """

    graph: Graph
    producer: Any
    topic: str
    codec: EventCodec
    pages: Pages
    _: KW_ONLY
    now: Callable[[], datetime]
    fraction: Callable[[], float]
    metrics: Metrics
    partitions: int
    erasures: Erasures = NOBODY
    catch_up: Callable[[], Awaitable[None]] | None = None
    tracing: Tracing = OFF
    _clock: PlausibleTime = field(init=False)
    _pace: Pace = field(init=False, default_factory=lambda: Pace(_CALLS_PER_SECOND))
    _lines: dict[PageId, _Line] = field(init=False, default_factory=dict)
    _held: dict[TopicPartition, set[int]] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self._clock = PlausibleTime(self.now(), uptime())

    async def open(self, spans: Mapping[TopicPartition, Span]) -> Mapping[TopicPartition, int]:
        await self.close()
        self._lines.clear()
        self._pace = Pace(_CALLS_PER_SECOND * share_of(len(spans), self.partitions))
        self._held = {partition: set() for partition in spans}
        # Reading requests again is safe: the join takes the first fact of a request and no other.
        return {partition: span.start for partition, span in spans.items()}

    async def take(
        self,
        batch: Sequence[Received[FetchTranscript]],
        positions: Mapping[TopicPartition, int],  # noqa: ARG002 - a stage's signature
    ) -> None:
        for received in batch:
            self._held[received.partition].add(received.offset)
            line = self._lines.setdefault(received.record.page_id, _Line())
            line.requests.append((received, self.tracing.traceparent()))

    async def tick(self) -> None:
        moment = self.now()
        for page_id, line in self._lines.items():
            if line.task is not None and line.task.done():
                line.task.result()
                line.task = None
            if line.task is None and line.requests:
                line.ready_at = line.ready_at or self._pace.reserve(page_id, moment)
                if line.ready_at <= moment:
                    line.ready_at = None
                    line.task = asyncio.create_task(self._answer_first(line, self.pages.get(page_id)))

    def unfinished(self) -> Mapping[TopicPartition, int]:
        return {partition: min(offsets) for partition, offsets in self._held.items() if offsets}

    def full(self) -> Collection[TopicPartition]:
        return [partition for partition, offsets in self._held.items() if len(offsets) >= _HELD_PER_PARTITION]

    async def close(self) -> None:
        running = [line.task for line in self._lines.values() if line.task is not None]
        for task in running:
            await task

    async def _answer_first(self, line: _Line, page: Page) -> None:
        first, trace = line.requests[0]
        with on_record(first.partition, first.offset), self.tracing.span("transcript", [trace]):
            await self._answer(line, page)

    async def _answer(self, line: _Line, page: Page) -> None:
        request = line.first.record
        if await self._is_erased(request):
            self._finish(line, "erased")
            return
        if not page.access_token:
            await self._settle(line, (), "refused")
            return
        try:
            line.are_read = line.are_read or await self._read_messages(line, page, request)
            if not line.are_read:
                return
            questions = (*page.questions, *await self._questions(line, page))
            answers = parse_transcript(line.messages, request.psid, ended_at=request.lead_at, questions=questions)
        except (Retryable, OutcomeUnknown) as fault:
            line.failures += 1
            if line.failures < _TRIES_MAX:
                pause = fault.regain_after or pause_after(line.failures, self.fraction)
                self._pace.hold(page.page_id, self.now() + pause)
                return
            await self._settle(line, (), "refused")
        except GraphError:
            await self._settle(line, (), "refused")
        else:
            await self._settle(line, answers, "answers" if answers else "no_answers")

    async def _read_messages(self, line: _Line, page: Page, request: FetchTranscript) -> bool:
        """Make one call; False if the conversation needs another call, which then waits for its turn."""
        paging = line.paging
        asked = conversation_request(page.page_id, request.psid, paging.after, paging.limit)
        try:
            response = await self._call("conversations", asked, page)
        except TooMuchData:
            if paging.shrink():
                return False
            raise
        line.messages += conversation_messages(response.body)
        # Meta gives details of the newest messages only, so that no older ones can be read.
        paging.most -= paging.limit
        try:
            return paging.most <= 0 or not paging.advance(conversation_page(response.body))
        except BrokenList:
            self.metrics.graph_calls.labels("conversations", BrokenList.__name__).inc()
            return True

    async def _questions(self, line: _Line, page: Page) -> tuple[str, ...]:
        read_at, moment = line.questions_read_at, self.now()
        if read_at is None or read_at + _FORMS_STAY_KNOWN <= moment:
            line.questions, line.questions_read_at = await self._read_forms(page), moment
        return line.questions

    async def _read_forms(self, page: Page) -> tuple[str, ...]:
        """The questions of the Page's lead forms; none where the token may not read them: the senders tell as well."""
        questions: tuple[str, ...] = ()
        paging = Paging(LIST_PAGE)
        for _ in range(_FORM_PAGES_MAX):
            asked = lead_forms_request(page.page_id, paging.after, paging.limit)
            try:
                response = await self._call("messenger_lead_forms", asked, page)
                questions += lead_form_questions(response.body)
                if not paging.advance(response.body):
                    break
            except Throttled:
                raise
            except TooMuchData:
                if not paging.shrink():
                    break
            except GraphError:
                break
        return questions

    async def _call(self, endpoint: str, request: GraphRequest, page: Page) -> GraphResponse:
        try:
            response = await self.graph.call(request, page.access_token)
        except GraphError as fault:
            result = type(fault).__name__ if fault.code is None else str(fault.code)
            self.metrics.graph_calls.labels(endpoint, result).inc()
            raise
        self.metrics.graph_calls.labels(endpoint, "ok").inc()
        return response

    async def _settle(self, line: _Line, answers: tuple[Answer, ...], result: str) -> None:
        request = line.first.record
        if await self._is_erased(request):
            self._finish(line, "erased")
            return
        fact = TranscriptFetched(
            event_id=f"transcript:{request.lead_id}",
            page_id=request.page_id,
            psid=request.psid,
            event_at=request.lead_at,
            # The time of the record in Kafka takes its place, decision 0005.
            received_at=self.now(),
            origin=ITSELF,
            lead_id=request.lead_id,
            answers=answers,
        )
        record = fact_record(fact, self.codec, self._clock.at(self.now(), uptime()), self.tracing.traceparent())
        await self.producer.send_and_wait(self.topic, **record._asdict())
        self._finish(line, result)

    async def _is_erased(self, request: FetchTranscript) -> bool:
        if self.catch_up is not None:
            await self.catch_up()
        return self.erasures.cover(request.page_id, request.psid, request.requested_at)

    def _finish(self, line: _Line, result: str) -> None:
        received = line.first
        self.metrics.transcripts_fetched.labels(result).inc()
        line.requests.popleft()
        line.failures, line.messages, line.are_read = 0, (), False
        line.paging = Paging(CONVERSATION_DETAILS_MAX)
        self._held[received.partition].discard(received.offset)
