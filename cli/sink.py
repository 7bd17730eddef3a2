"""`leadstream sink …`: commands to the Send API, records to the warehouse, transcripts from the Conversations API."""

import asyncio
import os
import random
from collections.abc import Awaitable, Callable, Collection, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import click
import httpx
import uvloop
from aiokafka.coordinator.assignors.abstract import AbstractPartitionAssignor
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor

from cli.accept_loss import accept_loss_option, accepted_losses
from cli.skip import skip_option, skippable
from leads.erasures import Erasures
from leads.pages import Pages
from messenger.client import CALL_TIMEOUT, GraphClient
from operations.access import require_access
from operations.broker import broker_of, kafka_answers
from operations.configuration import load_caps, load_pages
from operations.deployment import require_topics, schema_ids
from operations.environment import current_settings, log_file
from operations.local.ports import require_ports, stage_port
from runtime import kafka
from runtime.admin import create_admin_app, serve
from runtime.clock import now
from runtime.cluster import Cluster
from runtime.health import Health
from runtime.logs import configure_logging
from runtime.loopback import NO_PROXY
from runtime.losses import Accepted, Losses, OutOfReach
from runtime.metrics import Metrics
from runtime.reach import Reach
from runtime.settings import Settings
from runtime.stopping import stop_at_signals
from runtime.suspect import Place
from runtime.topic_admin import cluster_id_of
from runtime.topic_reading import TopicFollower, TopicMissing
from runtime.yaml_file import FileFault
from schemas.codec import (
    Ids,
    command_codec,
    event_codec,
    outcome_codec,
    transcript_request_codec,
)
from schemas.topics import COMMANDS, ERASURES, EVENTS, OUTCOMES, TRANSCRIPTS, Topic
from sinks.consume import Consume, RecordSource, SinkCrashed, Source, Stage, Unusable, WholeSource
from sinks.send.broker_clock import BrokerTime
from sinks.send.ledger import KafkaOutcomeLog, Ledger
from sinks.send.lookahead import KafkaAhead
from sinks.send.pace import SendLimits
from sinks.send.sink import SendSink, command_reader, event_reader
from sinks.transcripts import TranscriptSink
from sinks.warehouse.delta.warehouse import DeltaWarehouse
from sinks.warehouse.postgres.connection import is_server
from sinks.warehouse.postgres.warehouse import PostgresWarehouse
from sinks.warehouse.rows import warehouse_sources
from sinks.warehouse.sink import Warehouse, WarehouseSink
from sinks.warehouse.tables import TABLES, Table, tables_by_topic

# For each client; it has nothing left to do when it is stopped.
_LEAVES_WITHIN = 3.0
_PORT_OFFSETS = {"send": 2, "warehouse": 3, "transcripts": 4}


@dataclass(frozen=True, slots=True)
class _Process:
    """What both sinks stand on; `opened` starts a client now and stops it at the end."""

    settings: Settings
    broker: Cluster
    ids: Ids
    name: str
    metrics: Metrics
    health: Health
    skips: Collection[Place]
    accepted: Accepted
    stop: asyncio.Event
    stack: AsyncExitStack

    @property
    def client_id(self) -> str:
        return f"leadstream-{self.name}"

    async def require_access(self) -> None:
        """A `ClickException` unless Kafka lets us in and do all that this sink does."""
        await require_access(self.settings, self.broker, f"sink-{self.name}")

    @property
    def losses(self) -> Losses:
        return Losses(f"leadstream sink {self.name}", self.metrics, self.accepted)

    async def opened(self, client: Any) -> Any:
        self.stack.push_async_callback(kafka.leave, client, _LEAVES_WITHIN)
        await client.start()
        return client

    async def register(self) -> tuple[Erasures, Callable[[], Awaitable[None]]]:
        """The erasure register, whole, and what brings it up to date."""
        erasures = Erasures()
        topic = self.settings.topic(ERASURES.name)
        follower = TopicFollower(self.broker, topic, erasures.note, client_id=f"{self.client_id}-erasures")
        self.stack.push_async_callback(follower.stop)
        try:
            await follower.start()
        except TopicMissing as fault:
            raise Unusable(str(fault)) from None
        return erasures, follower.catch_up

    async def consume(
        self,
        sources: Mapping[str, Source[Any] | RecordSource[Any] | WholeSource[Any]],
        stage: Stage[Any],
        producer: Any,
        reach: Reach,
        assignor: type[AbstractPartitionAssignor] = RoundRobinPartitionAssignor,
    ) -> None:
        await require_topics(self.settings, self.broker)
        group = f"{self.settings.topic_prefix}{self.client_id}"
        # Leaving a partition waits for the calls under way, so that a rebalance has to wait for us.
        options = {"rebalance_timeout_ms": 60_000, "partition_assignment_strategy": (assignor,)}
        consumer = await self.opened(kafka.consumer(self.broker, group=group, client_id=self.client_id, **options))
        consume = Consume(
            consumer,
            producer,
            sources,
            stage,
            name=self.name,
            metrics=self.metrics,
            health=self.health,
            skips=self.skips,
            reach=reach,
        )
        await consume.run(self.stop)


@click.group()
def command() -> None:
    """Carry commands and leads out."""


@command.command("send")
@click.option(
    "--admin-port", type=click.IntRange(0, 65535), help="Port of health and metrics.  [default: ADMIN_PORT + 2]"
)
@click.option(
    "--quarantine",
    type=click.FloatRange(min=0.002),
    default=20.0,
    show_default=True,
    help="Seconds until a call without a result is looked up; a call may take half of them.",
)
@skip_option
@accept_loss_option
def send(admin_port: int | None, quarantine: float, skip: tuple[str, ...], accept_loss: tuple[str, ...]) -> None:
    """Send follow-ups with Meta's Send API, each once, inside its window.

    Pages and their tokens come from LEADSTREAM_PAGES, caps from LEADSTREAM_FOLLOWUPS. What became of each command is in
    followup-outcomes.

    \b
    Example:
      PAGE_TOKEN=… leadstream sink send
    """
    call_timeout = timedelta(seconds=quarantine) / 2
    caps = load_caps(current_settings(), os.environ)
    limits = SendLimits(call_timeout=call_timeout, quarantine=2 * call_timeout, caps=caps)
    _run("send", admin_port, skip, (COMMANDS, EVENTS), lambda process: _send(process, limits), accept_loss)


@command.command("warehouse")
@click.option(
    "--admin-port", type=click.IntRange(0, 65535), help="Port of health and metrics.  [default: ADMIN_PORT + 3]"
)
@skip_option
def warehouse(admin_port: int | None, skip: tuple[str, ...]) -> None:
    """Keep leads, follow-up outcomes, replies and dead letters in the warehouse, LEADSTREAM_WAREHOUSE.

    A directory or the URI of object storage holds Delta Lake tables; postgresql://… is a server.

    \b
    Example:
      leadstream sink warehouse
      LEADSTREAM_WAREHOUSE=postgresql://user@host/leads leadstream sink warehouse
    """
    _run("warehouse", admin_port, skip, [topic for table in TABLES for topic in table.topics], _warehouse)


@command.command("transcripts")
@click.option(
    "--admin-port", type=click.IntRange(0, 65535), help="Port of health and metrics.  [default: ADMIN_PORT + 4]"
)
@skip_option
@accept_loss_option
def transcripts(admin_port: int | None, skip: tuple[str, ...], accept_loss: tuple[str, ...]) -> None:
    """Read the answers of complete leads that closed without any from the Conversations API.

    What was found goes to messenger-events as a fact, so that no replay has to ask again.

    \b
    Example:
      PAGE_TOKEN=… leadstream sink transcripts
    """
    _run("transcripts", admin_port, skip, (TRANSCRIPTS,), _transcripts, accept_loss)


def _run(
    name: str,
    admin_port: int | None,
    skip: tuple[str, ...],
    topics: Collection[Topic],
    work: Callable[[_Process], Awaitable[None]],
    accept_loss: tuple[str, ...] = (),
) -> None:
    settings = current_settings()
    port = settings.admin_port + _PORT_OFFSETS[name] if admin_port is None else admin_port
    require_ports([stage_port(settings, f"sink {name}", port)])
    configure_logging("info", secrets=settings.secrets, file=log_file(settings))
    skips = skippable(settings, skip, group=settings.topic(f"leadstream-{name}"), topics=topics)
    accepted = accepted_losses(settings, accept_loss, {settings.topic(topic.name) for topic in (*topics, OUTCOMES)})
    broker, ids = broker_of(settings), schema_ids(settings)

    async def serve_work() -> None:
        stop = stop_at_signals()
        metrics, health = Metrics(), Health()
        async with serve(create_admin_app(metrics, health), settings.admin_host, port), AsyncExitStack() as stack:
            await work(_Process(settings, broker, ids, name, metrics, health, skips, accepted, stop, stack))

    try:
        with kafka_answers():
            uvloop.run(serve_work())
    except (FileFault, Unusable, OutOfReach) as fault:
        raise click.ClickException(str(fault)) from None
    except SinkCrashed as fault:
        raise click.ClickException(f"the sink stopped at an unforeseen {fault}; its offsets have not moved") from None
    except OSError as fault:
        raise click.ClickException(f"cannot start: {fault}") from None


async def _send(process: _Process, limits: SendLimits) -> None:
    settings, pages = process.settings, _pages(process.settings)
    await process.require_access()
    producer = await process.opened(kafka.producer(process.broker, client_id=process.client_id, linger_ms=0))
    reader = await process.opened(kafka.consumer(process.broker, group=None, client_id=f"{process.client_id}-ledger"))
    clock = BrokerTime(now)
    erasures, catch_up = await process.register()

    def reads_ledger(done: int, records: int) -> None:
        process.health.report(process.name, ready=False, seen=f"reads the ledger: {done} of {records}")

    log = KafkaOutcomeLog(settings.topic(OUTCOMES.name), reader, producer)
    sink = SendSink(
        Ledger(log, outcome_codec(process.ids), clock, on_read=reads_ledger),
        KafkaAhead(reader, command_codec(process.ids)),
        await _graph(process, limits.call_timeout),
        pages,
        commands=settings.topic(COMMANDS.name),
        clock=clock,
        fraction=random.random,
        metrics=process.metrics,
        limits=limits,
        partitions=settings.partitions,
        erasures=erasures,
        catch_up=catch_up,
    )
    sources: dict[str, Source[Any] | RecordSource[Any] | WholeSource[Any]] = {
        settings.topic(COMMANDS.name): RecordSource(
            command_reader(command_codec(process.ids), settings.partitions), settings.topic(COMMANDS.dead_letters)
        ),
        settings.topic(EVENTS.name): _source(settings, EVENTS, event_reader(event_codec(process.ids))),
    }
    # By range, a worker gets the same partitions of both topics, and with them the same people.
    reach = Reach(process.losses, {*sources, settings.topic(OUTCOMES.name)})
    await process.consume(sources, sink, producer, reach, RangePartitionAssignor)


async def _transcripts(process: _Process) -> None:
    settings, pages = process.settings, _pages(process.settings)
    await process.require_access()
    producer = await process.opened(kafka.producer(process.broker, client_id=process.client_id, linger_ms=0))
    erasures, catch_up = await process.register()
    sink = TranscriptSink(
        await _graph(process, CALL_TIMEOUT),
        producer,
        settings.topic(EVENTS.name),
        event_codec(process.ids),
        pages,
        now=now,
        fraction=random.random,
        metrics=process.metrics,
        partitions=settings.partitions,
        erasures=erasures,
        catch_up=catch_up,
    )
    source = _source(settings, TRANSCRIPTS, transcript_request_codec(process.ids).decode)
    sources = {settings.topic(TRANSCRIPTS.name): source}
    await process.consume(sources, sink, producer, Reach(process.losses, sources.keys()))


def _pages(settings: Settings) -> Pages:
    """The Pages, whose tokens are no part of any log from now on."""
    pages = load_pages(settings, os.environ)
    configure_logging(
        "info", secrets=(*settings.secrets, *(page.access_token for page in pages)), file=log_file(settings)
    )
    return pages


async def _graph(process: _Process, call_timeout: timedelta) -> GraphClient:
    settings = process.settings
    http = await process.stack.enter_async_context(httpx.AsyncClient(mounts=NO_PROXY))
    secret = settings.app_secrets[0] if settings.app_secrets else None
    return GraphClient(settings.graph_url, settings.graph_version, http, secret, timeout=call_timeout)


async def _warehouse(process: _Process) -> None:
    settings = process.settings
    tables = tables_by_topic(settings.topic)
    await process.require_access()
    cluster_id = await cluster_id_of(process.broker)
    held = await asyncio.to_thread(_open_warehouse, settings.warehouse, tables, cluster_id)
    process.stack.callback(held.close)
    producer = await process.opened(kafka.producer(process.broker, client_id=process.client_id))
    sink = WarehouseSink(held, tables, now=now, metrics=process.metrics)
    sources = warehouse_sources(settings.topic, process.ids)
    await process.consume(sources, sink, producer, Reach(None, sources.keys()))


def _source(settings: Settings, topic: Topic, decode: Callable[[bytes | None], Any]) -> Source[Any]:
    return Source(decode, settings.topic(topic.dead_letters))


def _open_warehouse(url: str, tables: Mapping[str, Table], cluster_id: str) -> Warehouse:
    if is_server(url):
        return PostgresWarehouse(url, tables, cluster_id=cluster_id)
    return DeltaWarehouse(url, tables, cluster_id=cluster_id)
