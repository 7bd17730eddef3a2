"""The send sink on a real Kafka, with a Graph API in memory."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from msgspec import structs

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
from tests.unit.sinks.events import a_reply
from tests.unit.sinks.fakes import PAGE, Clock, FakeGraph, FakeKafka, JoinedUpToNow, a_command

pytestmark = [pytest.mark.anyio, pytest.mark.integration]

LIMITS = SendLimits(sends_per_second=1000, call_timeout=timedelta(milliseconds=500), quarantine=timedelta(seconds=1))


@dataclass(slots=True)
class _Cluster:
    """Sinks over the topics of one test, all calling one Graph API."""

    settings: Settings
    graph: FakeGraph = field(default_factory=lambda: FakeGraph(FakeKafka(), Clock()))
    limits: SendLimits = LIMITS
    join_group: str | None = None

    @property
    def commands(self) -> str:
        return self.settings.topic("followup-commands")

    @property
    def events(self) -> str:
        return self.settings.topic("messenger-events")

    @property
    def outcomes(self) -> str:
        return self.settings.topic("followup-outcomes")

    def command(self, name: str, psid: str) -> SendFollowUp:
        moment = now()
        return a_command(name, psid=Psid(psid), not_before=moment, not_after=moment + timedelta(hours=1))

    async def put(self, *commands: SendFollowUp | bytes) -> None:
        await put(self.settings, self.commands, *map(_record, commands))

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
            for key, value in map(_record, commands):
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
                Pages([Page(PAGE, access_token="page-token")]),
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


def _record(command: SendFollowUp | bytes) -> tuple[bytes, bytes]:
    if isinstance(command, bytes):
        return b"p:1", command
    return person_key(command.page_id, command.psid).encode(), command_codec().encode(command)


async def test_outcomes_lie_in_the_partition_of_their_command(kafka_topics: Settings) -> None:
    cluster = _Cluster(kafka_topics)
    await cluster.put(*(cluster.command(f"c{number}", str(number)) for number in range(20)))

    async with cluster.sink():
        await cluster.until_settled(20)

    places = {
        command_codec().decode(record.value).command_id: record.partition
        for record in await records_of(kafka_topics, cluster.commands)
    }
    assert set(places.values()) == {0, 1}
    assert {record.key.decode(): record.partition for record in await cluster.outcome_records()} == places
    assert {outcome.status for outcome in (await cluster.latest()).values()} == {"sent"}


async def test_reading_all_commands_again_sends_nothing_again(kafka_topics: Settings) -> None:
    cluster = _Cluster(kafka_topics)
    await cluster.put(*(cluster.command(f"c{number}", str(number)) for number in range(20)))
    async with cluster.sink("first"):
        await cluster.until_settled(20)
    await cluster.put(cluster.command("last", "7001"))

    async with cluster.sink("second"):
        await cluster.until_settled(21)

    assert len(cluster.graph.sent) == len(set(cluster.graph.sent)) == 21


async def test_a_second_worker_takes_over_partitions_without_sending_twice(kafka_topics: Settings) -> None:
    cluster = _Cluster(kafka_topics)
    commands = [cluster.command(f"c{number}", str(number % 37)) for number in range(300)]

    async with cluster.sink():
        await cluster.put(*commands[:100])
        async with cluster.sink():
            await cluster.put(*commands[100:200])
            await cluster.until_settled(200)
        await cluster.put(*commands[200:])
        await cluster.until_settled(300)

    assert sorted(cluster.graph.sent) == sorted(command.command_id for command in commands)


async def test_undecodable_commands_go_to_the_dead_letters_with_their_bytes(kafka_topics: Settings) -> None:
    cluster = _Cluster(kafka_topics)
    await cluster.put(b"\x00\x00\x00\x00\x63junk", cluster.command("c1", "1"))

    async with cluster.sink():
        await cluster.until_settled(1)

    [letter] = await records_of(kafka_topics, f"{cluster.commands}-dlq")
    assert letter.value == b"\x00\x00\x00\x00\x63junk"
    assert dict(letter.headers)["__connect.errors.topic"] == cluster.commands.encode()


async def test_commands_that_lie_apart_from_their_person_go_to_the_dead_letters(kafka_topics: Settings) -> None:
    """Another partitioner or key puts a command where nothing that its person does is heard."""
    cluster = _Cluster(kafka_topics)
    command, good = cluster.command("c1", "1"), cluster.command("c2", "1")
    await cluster.put(good)
    [placed] = await records_of(kafka_topics, cluster.commands)
    async with connected(kafka.producer(cluster_of(kafka_topics), client_id="automation")) as producer:
        value = command_codec().encode(command)
        await producer.send_and_wait(cluster.commands, value, key=placed.key, partition=1 - placed.partition)
        await producer.send_and_wait(cluster.commands, value, key=b"c1", partition=placed.partition)

    async with cluster.sink():
        await cluster.until_settled(1)
        letters = await _letters(cluster, 2)

    assert {dict(letter.headers)["__connect.errors.exception.message"] for letter in letters} == {
        b"wrong_partition: produce with the partitioner murmur2",
        b"key_of_another",
    }
    assert cluster.graph.sent == ["c2"]


async def _letters(cluster: _Cluster, count: int) -> list[Any]:
    for _ in range(300):
        letters = await records_of(cluster.settings, f"{cluster.commands}-dlq")
        if len(letters) >= count:
            return letters
        await asyncio.sleep(0.1)
    raise AssertionError("the dead letters did not come")


async def test_commands_that_an_automation_writes_in_transactions_are_sent(kafka_topics: Settings) -> None:
    cluster = _Cluster(kafka_topics)
    await cluster.put_in_transaction(*(cluster.command(f"c{number}", str(number)) for number in range(10)))

    async with cluster.sink():
        await cluster.until_settled(10)
        await cluster.put_in_transaction(cluster.command("aborted", "7001"), aborts=True)
        await cluster.put_in_transaction(cluster.command("last", "7001"))
        await cluster.until_settled(11)

    assert len(cluster.graph.sent) == len(set(cluster.graph.sent)) == 11


async def test_what_was_cancelled_while_the_sink_was_down_is_not_sent(kafka_topics: Settings) -> None:
    cluster = _Cluster(kafka_topics, limits=replace(LIMITS, held_per_partition=50))
    commands = [cluster.command(f"c{number}", str(number)) for number in range(400)]
    taken_back = commands[::7]
    await cluster.put(*commands, *(structs.replace(outcome, cancel_reason="human") for outcome in taken_back))

    async with cluster.sink():
        await cluster.until_settled(400)

    assert sorted(cluster.graph.sent) == sorted(command.command_id for command in commands if command not in taken_back)
    assert {name for name, outcome in (await cluster.latest()).items() if outcome.status == "cancelled"} == {
        outcome.command_id for outcome in taken_back
    }


async def test_an_old_command_waits_for_the_join_and_its_late_cancellation(kafka_topics: Settings) -> None:
    cluster = _Cluster(kafka_topics, join_group=f"{kafka_topics.topic_prefix}leadstream")
    stays, goes = cluster.command("stays", "1"), cluster.command("goes", "2")
    fresh = structs.replace(cluster.command("fresh", "3"), created_at=now())
    await cluster.put(stays, goes, fresh)

    async with cluster.sink():
        await cluster.until_settled(1)
        await cluster.report_and_join(now() - timedelta(minutes=1))
        await asyncio.sleep(3)
        sent_before = list(cluster.graph.sent)
        await cluster.put(structs.replace(stays, cancel_reason="reply"))
        await cluster.report_and_join(now())
        await cluster.until_settled(3)

    assert sent_before == ["fresh"]
    assert cluster.graph.sent == ["fresh", "goes"]
    assert (await cluster.latest())["stays"].status == "cancelled"


async def test_a_reply_that_the_sink_has_read_cancels_a_planned_command_before_the_join_does(
    kafka_topics: Settings,
) -> None:
    cluster = _Cluster(kafka_topics)
    moment = now()
    stays = structs.replace(
        cluster.command("stays", "7001"), created_at=moment, cancel_on=("reply",), flow_ended_at=moment
    )
    reply = structs.replace(a_reply(moment + timedelta(seconds=1)), event_at=moment + timedelta(seconds=1))
    await put(kafka_topics, cluster.events, (person_key(PAGE, "7001").encode(), event_codec().encode(reply)))
    await cluster.put(stays)

    async with cluster.sink():
        await cluster.until_settled(1)

    assert [(outcome.status, outcome.reason) for outcome in (await cluster.latest()).values()] == [
        ("cancelled", "reply")
    ]
