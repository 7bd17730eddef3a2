"""One sink as this process: its clients opened in order, its admin port, and its loop until SIGTERM or Ctrl-C."""

import asyncio
import os
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from datetime import timedelta
from functools import partial
from typing import Any, Literal

import uvloop
from aiokafka.coordinator.assignors.range import RangePartitionAssignor

from messenger.client import CALL_TIMEOUT
from operations.access import require_access
from operations.configuration import load_caps
from operations.deployment import Deployment, start_log
from operations.local.ports import require_ports, stage_port
from operations.reporting import OperationError
from operations.skip import accepted_losses, require_ahead, skipped_places
from operations.stages.conversions import report_conversions
from operations.stages.deliver import deliver
from operations.stages.process import SinkProcess
from runtime import kafka
from runtime.admin import create_admin_app, serve
from runtime.clock import now
from runtime.cluster import admin_client
from runtime.consumer_groups import committed_offsets
from runtime.health import Health
from runtime.metrics import Metrics
from runtime.reach import Reach
from runtime.settings import Settings
from runtime.stopping import stop_at_signals
from runtime.topic_admin import cluster_id_of
from runtime.tracing import tracing_of
from schemas.codec import command_codec, event_codec, outcome_codec, transcript_request_codec
from schemas.topics import (
    COMMANDS,
    CONVERSIONS,
    DELIVERIES,
    EVENTS,
    LEADS,
    OUTCOMES,
    STAGES,
    TRANSCRIPTS,
    WEBHOOKS,
    Topic,
)
from sinks.consume import SinkCrashed, Source
from sinks.send.broker_clock import BrokerTime
from sinks.send.courier import Courier
from sinks.send.join_progress import JoinProgress
from sinks.send.ledger import Ledger
from sinks.send.lookahead import Ahead
from sinks.send.outcome_log import OutcomeLog
from sinks.send.pace import SendLimits
from sinks.send.readers import command_reader, event_reader
from sinks.send.sink import SendSink
from sinks.transcripts import TranscriptSink
from sinks.warehouse.delta.warehouse import DeltaWarehouse
from sinks.warehouse.postgres.connection import is_server
from sinks.warehouse.postgres.warehouse import PostgresWarehouse
from sinks.warehouse.rows import warehouse_sources
from sinks.warehouse.sink import Warehouse, WarehouseSink
from sinks.warehouse.tables import TABLES, Table, tables_by_topic

# A rebalance waits for the look at the join's offsets.
_LOOK_MILLIS = 5000
Sink = Literal["send", "warehouse", "transcripts", "deliver", "conversions"]


def run_sink(
    name: Sink,
    settings: Settings,
    say: Callable[[str], None],
    *,
    admin_port: int | None,
    skip: Sequence[str],
    accept_loss: Sequence[str],
    call_timeout: timedelta = CALL_TIMEOUT,
) -> None:
    """Run a sink until SIGTERM or Ctrl-C. A call to Meta may take `call_timeout`. Raises `Mendable`."""
    port_offset, topics, work = _SINKS[name]
    port = settings.admin_port + port_offset if admin_port is None else admin_port
    require_ports([stage_port(settings, f"sink {name}", port)])
    start_log(settings)
    skips = skipped_places(settings, skip, topics)
    held = {settings.topic(topic.name) for topic in (*topics, OUTCOMES, CONVERSIONS, DELIVERIES)}
    accepted = accepted_losses(settings, accept_loss, held)
    deployment = Deployment.of(settings)
    require_ahead(deployment, settings.topic(f"leadstream-{name}"), skips, say)

    async def serve_work() -> None:
        stop, metrics, health = stop_at_signals(), Metrics(), Health()
        async with serve(create_admin_app(metrics, health), settings.admin_host, port), AsyncExitStack() as stack:
            process = SinkProcess(
                deployment, name, skips, accepted, call_timeout, metrics, health, stop, stack, tracing
            )
            await work(process)

    try:
        with tracing_of(os.environ, f"sink-{name}") as tracing:
            uvloop.run(serve_work())
    except SinkCrashed as fault:
        raise OperationError(f"the sink stopped at an unforeseen {fault}; its offsets have not moved") from None
    except OSError as fault:
        raise OperationError(f"cannot start: {fault}") from None


async def _send(process: SinkProcess) -> None:
    settings, deployment, pages = process.settings, process.deployment, process.pages()
    caps = load_caps(settings, os.environ)
    limits = SendLimits(call_timeout=process.call_timeout, quarantine=2 * process.call_timeout, caps=caps)
    await require_access(deployment, "sink-send")
    producer = await process.producer(linger_ms=0)
    reader = await process.opened(kafka.consumer(deployment.broker, group=None, client_id="leadstream-send-ledger"))
    clock = BrokerTime(now)
    erasures, catch_up = await process.erasures()
    log = OutcomeLog(deployment.topic(OUTCOMES), reader, producer)
    courier = Courier(
        Ledger(log, outcome_codec(deployment.ids), clock, on_read=process.on_read),
        await process.graph(),
        pages,
        clock=clock,
        fraction=random.random,
        metrics=process.metrics,
        limits=limits,
        partitions=settings.partitions,
        tracing=process.tracing,
    )
    ahead = Ahead(reader, command_codec(deployment.ids))
    admin = await process.stack.enter_async_context(admin_client(deployment.broker, request_timeout_ms=_LOOK_MILLIS))
    join = JoinProgress(partial(committed_offsets, admin, settings.topic("leadstream")), now)
    sink = SendSink(
        courier, ahead, commands=deployment.topic(COMMANDS), join=join, erasures=erasures, catch_up=catch_up
    )
    read_command = command_reader(command_codec(deployment.ids), settings.partitions)
    read_event = event_reader(event_codec(deployment.ids))
    sources: dict[str, Source[Any]] = {
        deployment.topic(COMMANDS): Source(read_command, settings.topic(COMMANDS.dead_letters), takes_tombstones=True),
        deployment.topic(EVENTS): Source(read_event, settings.topic(EVENTS.dead_letters)),
    }
    # By range, a worker gets the same partitions of both topics, and with them the same people.
    reach = Reach(process.losses, {*sources, deployment.topic(OUTCOMES)})
    await process.consume(sources, sink, producer, reach, RangePartitionAssignor)


async def _transcripts(process: SinkProcess) -> None:
    settings, deployment, pages = process.settings, process.deployment, process.pages()
    await require_access(deployment, "sink-transcripts")
    producer = await process.producer(linger_ms=0)
    erasures, catch_up = await process.erasures()
    sink = TranscriptSink(
        await process.graph(),
        producer,
        deployment.topic(WEBHOOKS),
        event_codec(deployment.ids),
        pages,
        now=now,
        fraction=random.random,
        metrics=process.metrics,
        partitions=settings.partitions,
        erasures=erasures,
        catch_up=catch_up,
        tracing=process.tracing,
    )
    requests = transcript_request_codec(deployment.ids)
    source = Source(lambda record: requests.decode(record.value), settings.topic(TRANSCRIPTS.dead_letters))
    sources = {deployment.topic(TRANSCRIPTS): source}
    await process.consume(sources, sink, producer, Reach(process.losses, sources.keys()))


async def _warehouse(process: SinkProcess) -> None:
    settings, deployment = process.settings, process.deployment
    tables = tables_by_topic(settings.topic)
    await require_access(deployment, "sink-warehouse")
    cluster_id = await cluster_id_of(deployment.broker)
    warehouse = await asyncio.to_thread(_open_warehouse, settings.warehouse, tables, cluster_id)
    process.stack.callback(warehouse.close)
    producer = await process.producer()
    sink = WarehouseSink(warehouse, tables, now=now, metrics=process.metrics, losses=process.losses)
    sources = warehouse_sources(settings.topic, deployment.ids)
    await process.consume(sources, sink, producer, Reach(None, sources.keys()))


def _open_warehouse(url: str, tables: Mapping[str, Table], cluster_id: str) -> Warehouse:
    if is_server(url):
        return PostgresWarehouse(url, tables, cluster_id=cluster_id)
    return DeltaWarehouse(url, tables, cluster_id=cluster_id)


# By name: how far its admin port is from the first one, the topics that it reads, and its work.
_SINKS: Mapping[Sink, tuple[int, Sequence[Topic], Callable[[SinkProcess], Awaitable[None]]]] = {
    "send": (2, (COMMANDS, EVENTS), _send),
    "warehouse": (3, [topic for table in TABLES for topic in table.topics], _warehouse),
    "transcripts": (4, (TRANSCRIPTS,), _transcripts),
    "deliver": (9, (LEADS, OUTCOMES), deliver),
    "conversions": (10, (LEADS, STAGES), report_conversions),
}
