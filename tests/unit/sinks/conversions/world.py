"""A conversions sink over a Kafka in memory and the simulator's Graph API, in virtual time."""

import asyncio
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import httpx
from aiokafka import TopicPartition

from leads.erasures import Erasures
from leads.pages import ConversionSettings, Page, Pages
from leads.records import ConversionOutcome, Lead, LeadId, LeadStage, stage_id
from messenger.client import GraphClient
from messenger.errors import NotSent
from messenger.events import AppId, PageId, Psid
from messenger.graph import GraphRequest, GraphResponse
from runtime.health import Health
from runtime.metrics import Metrics
from runtime.reach import Reach
from runtime.tracing import OFF, Tracing
from schemas.codec import conversion_codec, lead_codec, stage_codec
from simulator.graph import create_graph
from simulator.world import GraphConfig, World
from sinks.consume import Consume, Source
from sinks.conversions.conversion import Input, lead_reader, stage_reader
from sinks.conversions.courier import ConversionCourier, ConversionLimits
from sinks.conversions.ledger import ConversionLedger
from sinks.conversions.sink import ConversionSink
from sinks.send.broker_clock import BrokerTime
from tests.builders import a_lead
from tests.unit.sinks.fakes import NOON, PAGE, Clock, FakeConsumer, FakeKafka, FakeOutcomeLog, FakeProducer

LEADS, STAGES = TopicPartition("leads", 0), TopicPartition("lead-stages", 0)
DATA_SET = "7700"
OTHER_PAGE = PageId("617203344871950")
HOUR = timedelta(hours=1)


def lead_of(psid: str, **given: Any) -> Lead:
    values = {"page_id": PAGE, "closed": True, "handover_at": NOON - HOUR, "first_seen_at": NOON - HOUR, **given}
    return a_lead(lead_id=LeadId(f"lead-of-{psid}"), psid=Psid(psid), **values)


def stage_of(psid: str, stage: str = "QualifiedLead", **given: Any) -> LeadStage:
    lead_id = LeadId(f"lead-of-{psid}")
    values = {"page_id": PAGE, "occurred_at": NOON, "stage_id": stage_id(lead_id, stage), **given}
    return LeadStage(lead_id=lead_id, psid=Psid(psid), stage=stage, **values)


class SimulatedGraph(GraphClient):
    """The simulator without a socket; `connects` is called before each request leaves."""

    def __init__(self, kafka: FakeKafka, world: World, clock: Clock) -> None:
        transport = httpx.ASGITransport(create_graph(world, clock, silence=timedelta(seconds=0.01)))
        super().__init__("http://graph.test", "v25.0", httpx.AsyncClient(transport=transport))
        self.kafka, self.connects = kafka, list[Callable[[], None]]()

    async def call(
        self, request: GraphRequest, token: str, *, may_leave: Callable[[], bool] | None = None
    ) -> GraphResponse:
        if self.connects:
            self.connects.pop(0)()
        if may_leave is not None and not may_leave():
            raise NotSent("held back")
        self.kafka.burn("before call")
        self.kafka.effects.append("call")
        response = await super().call(request, token)
        self.kafka.burn("after call")
        return response


@dataclass
class ConversionWorld:
    kafka: FakeKafka = field(default_factory=FakeKafka)
    clock: Clock = field(default_factory=Clock)
    metrics: Metrics = field(default_factory=Metrics)
    erasures: Erasures = field(default_factory=Erasures)
    limits: ConversionLimits = field(default_factory=ConversionLimits)
    token: str = "t0ken"
    tracing: Tracing = OFF

    def __post_init__(self) -> None:
        config = GraphConfig(
            app_id=AppId("1"), page_tokens={PAGE: "t0ken"}, data_sets={PAGE: DATA_SET, OTHER_PAGE: DATA_SET}
        )
        self.meta = World(config, random.Random(1), lambda _: None)
        self.graph = SimulatedGraph(self.kafka, self.meta, self.clock)
        self.log = FakeOutcomeLog(self.kafka, self.clock, "conversion-outcomes", conversion_codec())

    def put(self, *records: Lead | LeadStage) -> None:
        for record in records:
            topic, value = (
                (LEADS, lead_codec().encode(record))
                if isinstance(record, Lead)
                else (STAGES, stage_codec().encode(record))
            )
            self.kafka.put(topic.topic, 0, record.lead_id.encode(), value)

    def outcome(self, outcome: ConversionOutcome) -> None:
        """The entries that another process left in the ledger."""
        self.kafka.put(self.log.topic, 0, outcome.conversion_id.encode(), conversion_codec().encode(outcome))

    async def settle_all(self, meanwhile: Mapping[int, Callable[[], None]] | None = None) -> list[ConversionOutcome]:
        """Run a fresh sink until every record is committed; `meanwhile` says what happens at which read."""
        stop, consumer = asyncio.Event(), FakeConsumer(self.kafka, self.clock, LEADS, STAGES)
        acts = meanwhile or {}

        async def look() -> None:
            if consumer.read_times in acts:
                acts[consumer.read_times]()
            if all(self.kafka.committed.get(place, 0) == len(self.kafka.topics[place]) for place in (LEADS, STAGES)):
                stop.set()

        consumer.script = dict.fromkeys(range(2, 20_000), look)
        await self._consume(consumer).run(stop)
        return self.outcomes()

    def outcomes(self) -> list[ConversionOutcome]:
        records = self.kafka.topics[TopicPartition(self.log.topic, 0)]
        return [conversion_codec().decode(record.value) for record in records if record.value is not None]

    def received(self) -> list[tuple[str, str]]:
        """What Meta has, in its order."""
        return [(conversion.name, conversion.psid) for conversion in self.meta.conversions.received]

    async def _catch_up(self, *, to_end: bool = False) -> None:
        """The register of a test is always whole."""

    def _consume(self, consumer: FakeConsumer) -> Consume[Input]:
        clock = BrokerTime(self.clock, self.clock.uptime)
        settings = ConversionSettings(DATA_SET, self.token)
        courier = ConversionCourier(
            ConversionLedger(self.log, conversion_codec(), clock),
            self.graph,
            Pages([Page(page_id, conversions=settings) for page_id in (PAGE, OTHER_PAGE)]),
            clock=clock,
            fraction=lambda: 1.0,
            metrics=self.metrics,
            limits=self.limits,
            partitions=1,
            erasures=self.erasures,
            catch_up=self._catch_up,
            tracing=self.tracing,
        )
        sources: dict[str, Source[Input]] = {
            LEADS.topic: Source(lead_reader(lead_codec()), "leads-dlq"),
            STAGES.topic: Source(stage_reader(stage_codec(), 1), "lead-stages-dlq"),
        }
        return Consume(
            consumer,
            FakeProducer(self.kafka),
            sources,
            ConversionSink(courier),
            name="conversions",
            metrics=self.metrics,
            health=Health(),
            reach=Reach(None),
            tracing=self.tracing,
        )
