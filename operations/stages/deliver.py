"""`sink deliver` put together: its destinations, its ledger, and the topics that it reads."""

import os
import random
from collections.abc import Callable
from typing import Any

from aiokafka.coordinator.assignors.range import RangePartitionAssignor

from operations.access import require_access
from operations.deployment import start_log
from operations.destinations import load_destinations
from operations.stages.process import SinkProcess
from runtime import kafka
from runtime.clock import now
from runtime.reach import Reach
from schemas.codec import Codec, NotDecodable, lead_codec, outcome_codec
from schemas.topics import DELIVERIES, LEADS, OUTCOMES
from sinks.consume import Source
from sinks.deliver.backlog import Backlog
from sinks.deliver.client import DeliveryClient
from sinks.deliver.courier import Courier
from sinks.deliver.destination import Destination
from sinks.deliver.ledger import DeliveryLedger
from sinks.deliver.next_step import DeliverLimits, Fortune
from sinks.deliver.outlet import Outlet
from sinks.deliver.queue import Record
from sinks.deliver.sink import DeliverSink
from sinks.fenced_log import FencedLog
from sinks.send.broker_clock import BrokerTime
from sinks.send.outcome_log import OutcomeLog


async def deliver(process: SinkProcess, limits: DeliverLimits | None = None) -> None:
    """Deliver until the process stops. Raises `FileFault`, and as `Consume.run` does."""
    limits = limits or DeliverLimits()
    settings, deployment = process.settings, process.deployment
    destinations = load_destinations(settings, os.environ)
    start_log(settings, hidden=[value for destination in destinations for value in destination.hidden])
    await require_access(deployment, "sink-deliver")
    producer = await process.producer(linger_ms=0)
    client_id = f"{process.client_id}-ledger"
    ledger_reader = await process.opened(kafka.consumer(deployment.broker, group=None, client_id=client_id))
    backlog_reader = await process.opened(kafka.consumer(deployment.broker, group=None, client_id=process.client_id))
    erasures, catch_up = await process.erasures()
    clock, topic = BrokerTime(now), deployment.topic(DELIVERIES)
    log = FencedLog(OutcomeLog(topic, ledger_reader, producer), clock)
    ledger = DeliveryLedger(log, ledger_reader.end_offsets, topic, clock)
    leads, outcomes = deployment.topic(LEADS), deployment.topic(OUTCOMES)
    decoders = {leads: delivery_reader(lead_codec(deployment.ids))}
    if any(destination.outcomes for destination in destinations):
        decoders[outcomes] = delivery_reader(outcome_codec(deployment.ids))
    letters = {leads: LEADS.dead_letters, outcomes: OUTCOMES.dead_letters}
    sources: dict[str, Source[Any]] = {
        name: Source(read, settings.topic(letters[name])) for name, read in decoders.items()
    }
    sink = DeliverSink(
        [_outlet(process, destination, limits) for destination in destinations],
        Courier(ledger, erasures, catch_up, clock, process.metrics),
        Backlog(backlog_reader, decoders),
        leads=leads,
        metrics=process.metrics,
        on_read=process.on_read,
    )
    # By range, a worker gets the same partitions of both topics, and with them one partition of the ledger.
    reach = Reach(process.losses, {*sources, topic})
    await process.consume(sources, sink, producer, reach, RangePartitionAssignor)


def _outlet(process: SinkProcess, destination: Destination, limits: DeliverLimits) -> Outlet:
    client = DeliveryClient(destination, concurrent=limits.concurrent_calls, timeout=limits.call_timeout)
    process.stack.push_async_callback(client.aclose)
    return Outlet(destination, client, limits, Fortune(limits, random.random))


def delivery_reader(codec: Codec[Any]) -> Callable[[Any], Record]:
    """Decodes a record; an unreadable one is None, because `sink warehouse` makes the dead letter of it."""

    def read(record: Any) -> Record:
        try:
            found: Record = codec.decode(record.value)
        except NotDecodable:
            return None
        return found

    return read
