"""Send sinks on a real Kafka, with a Graph API in memory, and what lies in their topics."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.coordinator.assignors.range import RangePartitionAssignor

from leads.facts import Progress
from leads.pages import Page, Pages
from leads.records import FollowUpOutcome, SendFollowUp
from messenger.events import Psid, person_key
from runtime import kafka
from runtime.clock import now
from runtime.cluster import admin_client, cluster_of
from runtime.consumer_groups import committed_offsets
from runtime.health import Health
from runtime.metrics import Metrics
from runtime.reach import Reach
from runtime.settings import Settings
from schemas.codec import command_codec, event_codec, outcome_codec
from sinks.consume import Consume, Source
from sinks.send.broker_clock import BrokerTime
from sinks.send.courier import Courier
from sinks.send.join_progress import JoinProgress
from sinks.send.ledger import Ledger
from sinks.send.lookahead import Ahead
from sinks.send.outcome_log import OutcomeLog
from sinks.send.pace import SendLimits
from sinks.send.readers import Input, command_reader, event_reader
from sinks.send.sink import SendSink
from tests.integration.topics import connected, put, records_of
from tests.unit.sinks.fakes import PAGE, Clock, FakeGraph, FakeKafka, JoinedUpToNow, a_command

LIMITS = SendLimits(sends_per_second=1000, call_timeout=timedelta(milliseconds=500), quarantine=timedelta(seconds=1))


@dataclass(slots=True)
class SendCluster:
    """Sinks over the topics of one test, all calling one Graph API."""

    settings: Settings
    graph: FakeGraph = field(default_factory=lambda: FakeGraph(FakeKafka(), Clock()))
    limits: SendLimits = LIMITS
    join_group: str | None = None
    pages: tuple[Page, ...] = field(default_factory=lambda: (Page(PAGE, access_token="page-token"),))

    @property
    def commands(self) -> str:
        return self.settings.topic("followup-commands")

    @property
    def events(self) -> str:
        return self.settings.topic("messenger-events")

    @property
    def outcomes(self) -> str:
        return self.settings.topic("followup-outcomes")

    def command(self, name: str, psid: str, **given: Any) -> SendFollowUp:
        moment = now()
        window = {"not_before": moment, "not_after": moment + timedelta(hours=1)}
        return a_command(name, psid=Psid(psid), **window | given)

    async def put(self, *commands: SendFollowUp | bytes) -> None:
        await put(self.settings, self.commands, *map(record_of, commands))

    @asynccontextmanager
    async def sink(self, group: str = "send") -> AsyncIterator[asyncio.Task[None]]:
        """A sink that runs until the block ends, then stops as on SIGTERM."""
        stop = asyncio.Event()
        task = asyncio.create_task(self._run(f"{self.settings.topic_prefix}{group}", stop))
        try:
            yield task
        finally:
            stop.set()
            await task

    async def outcome_records(self) -> list[Any]:
        return [record for record in await records_of(self.settings, self.outcomes) if record.value is not None]

    async def latest(self) -> dict[str, FollowUpOutcome]:
        outcomes = [outcome_codec().decode(record.value) for record in await self.outcome_records()]
        return {outcome.command_id: outcome for outcome in outcomes}

    async def until_settled(self, count: int) -> None:
        for _ in range(300):
            if sum(outcome.status != "attempting" for outcome in (await self.latest()).values()) == count:
                return
            await asyncio.sleep(0.1)
        raise AssertionError(f"fewer than {count} commands are settled")

    async def put_in_transaction(self, *commands: SendFollowUp, aborts: bool = False) -> None:
        """As Kafka Streams or Flink write; the end of a transaction takes an offset that no reader is shown."""
        name = f"{self.settings.topic_prefix}automation"
        async with connected(AIOKafkaProducer(bootstrap_servers=self.settings.broker, transactional_id=name)) as writer:
            await writer.begin_transaction()
            for key, value in map(record_of, commands):
                await writer.send_and_wait(self.commands, value, key=key)
            await (writer.abort_transaction() if aborts else writer.commit_transaction())

    async def report_and_join(self, received_until: datetime) -> None:
        """Do as streams do each second: the splitter reports its progress, and the join commits the report."""
        broker, places = cluster_of(self.settings), [TopicPartition(self.events, 0), TopicPartition(self.events, 1)]
        report = event_codec().encode(Progress(((0, received_until), (1, received_until))))
        async with connected(kafka.producer(broker, client_id="split")) as producer:
            for place in places:
                await producer.send_and_wait(place.topic, report, key=b"progress", partition=place.partition)
        async with connected(kafka.consumer(broker, group=self.join_group, client_id="join")) as consumer:
            consumer.assign(places)
            await consumer.commit(await consumer.end_offsets(places))

    async def _run(self, group: str, stop: asyncio.Event) -> None:
        broker = cluster_of(self.settings)
        async with AsyncExitStack() as stack:
            producer = await stack.enter_async_context(connected(kafka.producer(broker, client_id="send", linger_ms=0)))
            reader = await stack.enter_async_context(connected(kafka.consumer(broker, group=None, client_id="ledger")))
            consumer = await stack.enter_async_context(
                connected(
                    kafka.consumer(
                        broker,
                        group=group,
                        client_id="send",
                        rebalance_timeout_ms=60_000,
                        partition_assignment_strategy=(RangePartitionAssignor,),
                    )
                )
            )
            clock = BrokerTime(now)
            courier = Courier(
                Ledger(OutcomeLog(self.outcomes, reader, producer), outcome_codec(), clock),
                self.graph,
                Pages(self.pages),
                clock=clock,
                fraction=lambda: 0.1,
                metrics=Metrics(),
                limits=self.limits,
                partitions=self.settings.partitions,
            )
            join: JoinProgress = JoinedUpToNow()
            if self.join_group is not None:
                admin = await stack.enter_async_context(admin_client(broker))
                join = JoinProgress(partial(committed_offsets, admin, self.join_group), now)
            sink = SendSink(courier, Ahead(reader, command_codec()), commands=self.commands, join=join)
            sources: dict[str, Source[Input]] = {
                self.commands: Source(
                    command_reader(command_codec(), self.settings.partitions), f"{self.commands}-dlq"
                ),
                self.events: Source(event_reader(event_codec()), f"{self.events}-dlq"),
            }
            await Consume(
                consumer, producer, sources, sink, name="send", metrics=Metrics(), health=Health(), reach=Reach(None)
            ).run(stop)


def record_of(command: SendFollowUp | bytes) -> tuple[bytes, bytes]:
    if isinstance(command, bytes):
        return b"p:1", command
    return person_key(command.page_id, command.psid).encode(), command_codec().encode(command)
