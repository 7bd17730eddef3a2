"""A send sink over fakes: commands in, virtual time on, outcomes and messages out."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from aiokafka import TopicPartition

from leads.erasures import NOBODY, Erasures
from leads.facts import JoinEvent, Progress
from leads.pages import Page, Pages
from leads.records import FollowUpOutcome, SendFollowUp
from messenger.events import AppId, PageId, person_key
from runtime.health import Health
from runtime.metrics import Metrics
from runtime.reach import Reach
from runtime.suspect import Place
from schemas.codec import command_codec, event_codec, outcome_codec
from sinks.consume import Consume, Source
from sinks.send.broker_clock import BrokerTime
from sinks.send.courier import Courier
from sinks.send.join_progress import JoinProgress
from sinks.send.ledger import Ledger
from sinks.send.pace import SendLimits
from sinks.send.readers import Input, event_reader
from sinks.send.sink import SendSink
from tests.unit.sinks.fakes import (
    PAGE,
    Clock,
    FakeAhead,
    FakeConsumer,
    FakeGraph,
    FakeKafka,
    FakeOutcomeLog,
    FakeProducer,
    JoinedUpToNow,
)

COMMANDS = TopicPartition("followup-commands", 0)
EVENTS = TopicPartition("messenger-events", 0)
OUR_APP = AppId("2262510160704936")


class _UntilDone(FakeConsumer):
    """Stops the sink once everything is committed, and fails a test in which that never happens."""

    def __init__(
        self, kafka: FakeKafka, clock: Clock, stop: asyncio.Event, most_reads: int, *of: TopicPartition
    ) -> None:
        super().__init__(kafka, clock, *of)
        self.stop, self.most_reads = stop, most_reads

    async def getmany(self, *, timeout_ms: int, max_records: int) -> dict[TopicPartition, list[Any]]:
        ends: Mapping[TopicPartition, int] = await self.end_offsets(self.assigned)
        if all(self.kafka.committed.get(partition, 0) == end for partition, end in ends.items()):
            self.stop.set()
        assert self.read_times < self.most_reads, "commands are left unsettled"
        return await super().getmany(timeout_ms=timeout_ms, max_records=max_records)


@dataclass(slots=True)
class SendWorld:
    kafka: FakeKafka = field(default_factory=FakeKafka)
    clock: Clock = field(default_factory=Clock)
    pages: Pages = field(default_factory=lambda: Pages([Page(PAGE, access_token="page-token", target_app=OUR_APP)]))
    limits: SendLimits = field(default_factory=SendLimits)
    metrics: Metrics = field(default_factory=Metrics)
    partitions: int = 1
    erasures: Erasures = NOBODY
    skips: Collection[Place] = ()
    join: JoinProgress = field(default_factory=JoinedUpToNow)
    graph: FakeGraph = field(init=False)
    log: FakeOutcomeLog = field(init=False)
    ahead: FakeAhead = field(init=False)

    def __post_init__(self) -> None:
        self.graph = FakeGraph(self.kafka, self.clock)
        self.log = FakeOutcomeLog(self.kafka, self.clock)
        self.ahead = FakeAhead(self.kafka)

    def command(self, command: SendFollowUp, partition: int = 0) -> None:
        key = person_key(command.page_id, command.psid).encode()
        self.kafka.put(COMMANDS.topic, partition, key, command_codec().encode(command))

    def outcome(self, outcome: FollowUpOutcome, partition: int = 0) -> None:
        """What an earlier process left in the ledger."""
        self.kafka.put("followup-outcomes", partition, outcome.command_id.encode(), outcome_codec().encode(outcome))

    def event(self, event: JoinEvent | Progress) -> None:
        self.kafka.put(EVENTS.topic, 0, b"key", event_codec().encode(event))

    def add_page(self, page_id: str) -> None:
        new = Page(PageId(page_id), access_token="page-token", target_app=OUR_APP)
        self.pages = Pages([*self.pages, new])

    def sink(self) -> SendSink:
        clock = BrokerTime(self.clock, self.clock.uptime)
        courier = Courier(
            Ledger(self.log, outcome_codec(), clock),
            self.graph,
            self.pages,
            clock=clock,
            fraction=lambda: 1.0,
            metrics=self.metrics,
            limits=self.limits,
            partitions=self.partitions,
        )
        return SendSink(courier, self.ahead, commands=COMMANDS.topic, join=self.join, erasures=self.erasures)

    async def settle_all(
        self, *, most_reads: int = 3000, meanwhile: Mapping[int, Callable[[], None]] | None = None
    ) -> list[FollowUpOutcome]:
        """Run a fresh sink until every command is committed; `meanwhile` says what happens at which read."""
        stop = asyncio.Event()
        consumer = _UntilDone(self.kafka, self.clock, stop, most_reads, COMMANDS, EVENTS)
        consumer.script = {at: _as_coroutine(act) for at, act in (meanwhile or {}).items()}
        await self.consume(consumer).run(stop)
        return self.log.outcomes()

    def consume(self, consumer: FakeConsumer) -> Consume[Input]:
        return Consume(
            consumer,
            FakeProducer(self.kafka),
            {
                COMMANDS.topic: Source(lambda record: command_codec().decode(record.value), "followup-commands-dlq"),
                EVENTS.topic: Source(event_reader(event_codec()), "messenger-events-dlq"),
            },
            self.sink(),
            name="send",
            metrics=self.metrics,
            health=Health(),
            skips=self.skips,
            reach=Reach(None),
        )


def _as_coroutine(act: Callable[[], None]) -> Callable[[], Awaitable[None]]:
    async def run() -> None:
        act()

    return run


def statuses(outcomes: list[FollowUpOutcome]) -> list[tuple[str, str]]:
    return [(outcome.command_id, outcome.status) for outcome in outcomes]
