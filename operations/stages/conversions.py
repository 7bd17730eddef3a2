"""The conversions sink's work in its process: its ledger, its calls and its topics."""

import random
from typing import Any

from aiokafka.coordinator.assignors.range import RangePartitionAssignor

from operations.access import require_access
from operations.stages.process import SinkProcess
from runtime import kafka
from runtime.clock import now
from runtime.reach import Reach
from schemas.codec import conversion_codec, lead_codec, stage_codec
from schemas.topics import CONVERSIONS, LEADS, STAGES
from sinks.consume import Source
from sinks.conversions.conversion import lead_reader, stage_reader
from sinks.conversions.courier import ConversionCourier, ConversionLimits
from sinks.conversions.ledger import ConversionLedger
from sinks.conversions.sink import ConversionSink
from sinks.send.broker_clock import BrokerTime
from sinks.send.outcome_log import OutcomeLog


async def report_conversions(process: SinkProcess) -> None:
    """Run until the process is stopped. Raises `Mendable`, `SinkCrashed`."""
    settings, deployment, pages = process.settings, process.deployment, process.pages()
    await require_access(deployment, "sink-conversions")
    producer = await process.producer(linger_ms=0)
    reader = await process.opened(
        kafka.consumer(deployment.broker, group=None, client_id=f"{process.client_id}-ledger")
    )
    erasures, catch_up = await process.erasures()
    clock = BrokerTime(now)
    log = OutcomeLog(deployment.topic(CONVERSIONS), reader, producer)
    courier = ConversionCourier(
        ConversionLedger(log, conversion_codec(deployment.ids), clock, on_read=process.on_read),
        await process.graph(),
        pages,
        clock=clock,
        fraction=random.random,
        metrics=process.metrics,
        limits=ConversionLimits(call_timeout=process.call_timeout),
        partitions=settings.partitions,
        erasures=erasures,
        catch_up=catch_up,
        tracing=process.tracing,
    )
    read_stage = stage_reader(stage_codec(deployment.ids), settings.partitions)
    sources: dict[str, Source[Any]] = {
        deployment.topic(LEADS): Source(lead_reader(lead_codec(deployment.ids)), settings.topic(LEADS.dead_letters)),
        deployment.topic(STAGES): Source(read_stage, settings.topic(STAGES.dead_letters)),
    }
    # By range, a worker gets the same partitions of both topics, and with them the same leads.
    reach = Reach(process.losses, {*sources, deployment.topic(CONVERSIONS)})
    await process.consume(sources, ConversionSink(courier), producer, reach, RangePartitionAssignor)
