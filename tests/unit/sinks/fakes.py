"""A Kafka and a Graph API in memory, in virtual time, that note each effect in order and can fail between any two."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

from aiokafka import TopicPartition
from aiokafka.errors import CommitFailedError
from aiokafka.structs import OffsetAndMetadata

from leads.records import FollowUpMessage, FollowUpOutcome, LeadId, SendFollowUp
from messenger.errors import GraphError, NotSent
from messenger.events import AppId, PageId, Psid
from messenger.graph import GraphRequest, GraphResponse, Usage
from runtime.clock import to_millis
from runtime.tracing import Attributes
from schemas.codec import Codec, command_codec, outcome_codec
from sinks.send.join_progress import JoinProgress
from sinks.send.lookahead import Ahead
from sinks.send.outcome_log import OutcomeLog

NOON = datetime(2026, 5, 6, 12, tzinfo=UTC)
PAGE = PageId("542998526103632")
INBOX = AppId("263902037430900")


class Crash(BaseException):
    """The process is gone."""


@dataclass(slots=True)
class Clock:
    """A wall clock, and the time that has `passed`, which nobody can set."""

    moment: datetime = NOON
    passed: timedelta = timedelta(0)

    def __call__(self) -> datetime:
        return self.moment

    def advance(self, by: timedelta) -> None:
        self.moment += by
        self.passed += by

    def be_set_back(self, by: timedelta) -> None:
        """So much time passes, and the clock shows none of it."""
        self.passed += by

    def uptime(self) -> timedelta:
        return self.passed


def a_command(name: str = "c1", **given: Any) -> SendFollowUp:
    values: dict[str, Any] = {
        "lead_id": LeadId(f"lead-of-{name}"),
        "page_id": PAGE,
        "psid": Psid("7001"),
        "rule": "thanks",
        "step": 0,
        "created_at": NOON,
        "not_before": NOON,
        "not_after": NOON + timedelta(hours=20),
        "message": FollowUpMessage("Thanks!"),
        **given,
    }
    return SendFollowUp(command_id=name, **values)


@dataclass(frozen=True, slots=True)
class Stored:
    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()
    timestamp: int = to_millis(NOON + timedelta(days=9))


@dataclass(slots=True)
class FakeKafka:
    """Topics, the group's offsets, and `effects`. A `fuse` names the effect before or after which the process dies."""

    topics: dict[TopicPartition, list[Stored]] = field(default_factory=lambda: defaultdict(list))
    committed: dict[TopicPartition, int] = field(default_factory=dict)
    metadata: dict[TopicPartition, str] = field(default_factory=dict)
    effects: list[str] = field(default_factory=list)
    fuse: str | None = None

    def put(self, topic: str, partition: int, key: bytes | None, value: bytes | None, *headers: Any) -> int:
        records = self.topics[TopicPartition(topic, partition)]
        records.append(Stored(topic, partition, len(records), key, value, headers))
        return len(records) - 1

    def burn(self, point: str) -> None:
        if self.fuse == point:
            self.fuse = None
            raise Crash(point)


class FakeOutcomeLog(OutcomeLog):
    """The ledger's log over a topic of `FakeKafka`. Each ack takes as long as `ack_takes` says."""

    def __init__(
        self,
        kafka: FakeKafka,
        clock: Clock | None = None,
        topic: str = "followup-outcomes",
        codec: Codec[Any] | None = None,
    ) -> None:
        self.kafka, self.topic, self.codec = kafka, topic, codec or outcome_codec()
        clock = clock or Clock()
        self.broker_clock: Callable[[], datetime] = clock
        self.advance = clock.advance
        self.stamps: dict[tuple[int, int], datetime] = {}
        self.ack_takes: list[timedelta] = []

    async def first_since(self, partitions: Collection[int], moment: datetime) -> Mapping[int, int]:
        held = {partition: len(self.kafka.topics[TopicPartition(self.topic, partition)]) for partition in partitions}
        found = {
            partition: next((at for at in range(end) if self.stamps.get((partition, at), NOON) >= moment), None)
            for partition, end in held.items()
        }
        return {partition: offset for partition, offset in found.items() if offset is not None}

    async def read(self, spans: Mapping[int, range]) -> AsyncIterator[Any]:
        for partition, span in spans.items():
            for offset in span:
                record = self.kafka.topics[TopicPartition(self.topic, partition)][offset]
                stamp = to_millis(self.stamps.get((partition, offset), NOON))
                yield SimpleNamespace(
                    partition=partition, offset=offset, key=record.key, value=record.value, timestamp=stamp
                )

    async def append(self, partition: int, key: bytes, value: bytes | None) -> Awaitable[Any]:
        status = self.codec.decode(value).status if value is not None else "fence"
        self.kafka.burn(f"before {status}")
        offset = self.kafka.put(self.topic, partition, key, value)
        self.stamps[partition, offset] = self.broker_clock()
        return self._ack(status, partition, offset)

    async def _ack(self, status: str, partition: int, offset: int) -> Any:
        ack = SimpleNamespace(offset=offset, timestamp=to_millis(self.stamps[partition, offset]))
        if status == "fence":
            return ack
        if self.ack_takes:
            self.advance(self.ack_takes.pop(0))
        self.kafka.effects.append(status)
        self.kafka.burn(f"after {status}")
        return ack

    def outcomes(self) -> list[FollowUpOutcome]:
        """All outcomes that can be read, by partition and offset."""
        records = [
            record for tp, held in sorted(self.kafka.topics.items()) if tp.topic == self.topic for record in held
        ]
        return [outcome_codec().decode(record.value) for record in records if record.value and record.value[0] == 0]


@dataclass(slots=True)
class FakeGraph:
    """Sends messages and shows them in the conversation.

    `faults` are raised by the next sends, one each, those in `faults_after` after the message has arrived, `refusals`
    by all sends to a person. `connects` is called before each message leaves, `before_answer` with each that arrived
    before the call returns. `owner` has the threads.
    """

    kafka: FakeKafka
    clock: Clock
    faults: list[GraphError] = field(default_factory=list)
    refusals: dict[str, GraphError] = field(default_factory=dict)
    faults_after: list[GraphError] = field(default_factory=list)
    look_up_faults: list[GraphError] = field(default_factory=list)
    owner: AppId | None = INBOX
    connects: Callable[[], None] | None = None
    before_answer: Callable[[str], Awaitable[None]] | None = None
    percent_used: int = 0
    bodies: list[Mapping[str, Any]] = field(default_factory=list)
    delivered: list[tuple[datetime, str, str, str]] = field(default_factory=list)
    under_way: int = 0
    most_under_way: int = 0

    async def call(
        self, request: GraphRequest, token: str, *, may_leave: Callable[[], bool] | None = None
    ) -> GraphResponse:
        assert token == "page-token"
        if request.path.endswith("/thread_owner"):
            self.kafka.effects.append("ask owner")
            return GraphResponse({"data": [{"thread_owner": {"app_id": self.owner}}] if self.owner else []}, None)
        if request.method == "GET":
            return self._conversation(request.query["user_id"])
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            await asyncio.sleep(0)
            if self.connects is not None:
                self.connects()
            if may_leave is not None and not may_leave():
                raise NotSent("held back")
            response = self._send(request.body or {})
            if self.before_answer is not None:
                await self.before_answer(f"m_{len(self.delivered)}")
            return response
        finally:
            self.under_way -= 1

    @property
    def sent(self) -> list[str]:
        """The command ids of the messages that arrived."""
        return [metadata for _, _, metadata, _ in self.delivered]

    def _send(self, body: Mapping[str, Any]) -> GraphResponse:
        if body["recipient"]["id"] in self.refusals:
            raise self.refusals[body["recipient"]["id"]]
        if self.faults:
            raise self.faults.pop(0)
        message = body["message"]
        self.bodies.append(body)
        self.kafka.burn("before call")
        self.delivered.append((self.clock(), body["recipient"]["id"], message["metadata"], message.get("text", "")))
        self.kafka.effects.append("call")
        self.kafka.burn("after call")
        if self.faults_after:
            raise self.faults_after.pop(0)
        usage = Usage(self.percent_used, None) if self.percent_used else None
        return GraphResponse({"message_id": f"m_{len(self.delivered)}"}, usage)

    def _conversation(self, psid: str) -> GraphResponse:
        self.kafka.effects.append("look-up")
        if self.look_up_faults:
            raise self.look_up_faults.pop(0)
        mine = [(number, *record) for number, record in enumerate(self.delivered, start=1) if record[1] == psid]
        shown = [
            {"id": f"m_{number}", "from": {"id": PAGE}, "message": text, "created_time": f"{at:%Y-%m-%dT%H:%M:%S}+0000"}
            for number, at, _, _, text in reversed(mine)
        ]
        return GraphResponse({"data": [{"messages": {"data": shown[:20]}}]}, None)


@dataclass(slots=True)
class FakeAhead(Ahead):
    """Sees all of `FakeKafka`; `recent` are the offsets that the broker stamped lately."""

    kafka: FakeKafka
    recent: dict[TopicPartition, int] = field(default_factory=dict)

    async def ends(self, partitions: Collection[TopicPartition]) -> Mapping[TopicPartition, int]:
        return {partition: len(self.kafka.topics[partition]) for partition in partitions}

    async def received_since(
        self,
        partitions: Collection[TopicPartition],
        moment: datetime,
    ) -> Mapping[TopicPartition, int]:
        return {partition: offset for partition, offset in self.recent.items() if partition in partitions}

    async def cancellations(self, partition: TopicPartition, span: range) -> Sequence[SendFollowUp]:
        records = self.kafka.topics[partition][span.start : span.stop]
        commands = [command_codec().decode(record.value) for record in records if record.value and record.value[0] == 0]
        return [command for command in commands if command.cancel_reason is not None]


class JoinedUpToNow(JoinProgress):
    """A join that is never behind."""

    def __init__(self) -> None:
        super().__init__(self.nothing, Clock())

    async def nothing(self, partitions: Collection[TopicPartition]) -> Mapping[TopicPartition, int]:
        return {}

    def has_passed(self, place: TopicPartition, raw_partition: int, moment: datetime) -> bool:
        return True


class FakeConsumer:
    """One member of a group, over `FakeKafka`. Each read moves the clock on by a tenth of a second."""

    def __init__(self, kafka: FakeKafka, clock: Clock, *assigned: TopicPartition) -> None:
        self.kafka, self.clock, self.assigned = kafka, clock, set(assigned)
        self.listener: Any = None
        self.positions: dict[TopicPartition, int] = {}
        self.halted: set[TopicPartition] = set()
        self.read_times = 0
        self.script: dict[int, Any] = {}
        self.refuse_commits = False

    def subscribe(self, topics: Sequence[str], listener: Any) -> None:
        self.listener = listener

    async def getmany(self, *, timeout_ms: int, max_records: int) -> dict[TopicPartition, list[Stored]]:
        self.read_times += 1
        for _ in range(20):
            await asyncio.sleep(0)
        self.clock.advance(timedelta(milliseconds=timeout_ms))
        if self.read_times == 1:
            await self.rebalance(*self.assigned)
        batches = {place: self._next(place, max_records) for place in self.assigned - self.halted}
        if self.read_times in self.script:
            await self.script.pop(self.read_times)()
        return {partition: records for partition, records in batches.items() if records}

    def _next(self, one: TopicPartition, most: int) -> list[Stored]:
        position = self.positions.get(one, 0)
        records = self.kafka.topics[one][position : position + most]
        self.positions[one] = position + len(records)
        return records

    async def rebalance(self, *assigned: TopicPartition) -> None:
        await self.listener.on_partitions_revoked(self.assigned)
        self.assigned = set(assigned)
        await self.listener.on_partitions_assigned(self.assigned)

    def assignment(self) -> set[TopicPartition]:
        return self.assigned

    async def beginning_offsets(self, partitions: Collection[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(partitions, 0)

    async def end_offsets(self, partitions: Collection[TopicPartition]) -> dict[TopicPartition, int]:
        return {partition: len(self.kafka.topics[partition]) for partition in partitions}

    async def committed(self, one: TopicPartition) -> int | None:
        return self.kafka.committed.get(one)

    def seek(self, one: TopicPartition, offset: int) -> None:
        assert one in self.assigned
        self.positions[one] = offset

    async def position(self, one: TopicPartition) -> int:
        return self.positions[one]

    async def topics(self) -> set[str]:
        return {place.topic for place in self.kafka.topics}

    misses_topics = False
    _client = None

    @property
    def _coordinator(self) -> Any:
        return SimpleNamespace(fetch_committed_offsets=self._fetch_committed_offsets)

    async def _fetch_committed_offsets(
        self, partitions: Collection[TopicPartition]
    ) -> dict[TopicPartition, OffsetAndMetadata]:
        committed = self.kafka.committed
        return {
            partition: OffsetAndMetadata(committed[partition], self.kafka.metadata.get(partition, ""))
            for partition in partitions
            if partition in committed
        }

    async def commit(self, offsets: Mapping[TopicPartition, tuple[int, str]]) -> None:
        if self.refuse_commits:
            raise CommitFailedError("rebalance")
        self.kafka.metadata.update({partition: metadata for partition, (_, metadata) in offsets.items()})
        for partition, (offset, metadata) in offsets.items():
            if metadata:
                self.kafka.committed.setdefault(partition, offset)
        moved = {
            partition: offset
            for partition, (offset, _) in offsets.items()
            if self.kafka.committed.get(partition, 0) != offset
        }
        if moved:
            self.kafka.burn("before commit")
            self.kafka.committed.update(moved)
            self.kafka.effects.append("commit")
            self.kafka.burn("after commit")

    def paused(self) -> set[TopicPartition]:
        return self.halted

    def pause(self, *partitions: TopicPartition) -> None:
        self.halted |= set(partitions)

    def resume(self, *partitions: TopicPartition) -> None:
        self.halted -= set(partitions)


class FakeProducer:
    """Keeps what is sent in `FakeKafka`, all in partition 0."""

    def __init__(self, kafka: FakeKafka) -> None:
        self.kafka = kafka

    async def send_and_wait(self, topic: str, value: bytes, *, key: bytes | None, headers: Sequence[Any]) -> None:
        self.kafka.put(topic, 0, key, value, *headers)
        self.kafka.effects.append(f"to {topic}")


class Spans:
    """Each span is named by its number; `made` has the name of each, and what it is linked to."""

    def __init__(self) -> None:
        self.made: list[tuple[str, list[bytes | None]]] = []
        self._current: ContextVar[bytes | None] = ContextVar("span", default=None)

    @contextmanager
    def span(
        self,
        name: str,
        causes: Iterable[bytes | None] = (),
        attributes: Attributes | None = None,
    ) -> Iterator[None]:
        self.made.append((name, list(causes)))
        token = self._current.set(b"%d" % len(self.made))
        yield
        self._current.reset(token)

    def traceparent(self, or_of: str | None = None) -> bytes | None:
        return self._current.get()
