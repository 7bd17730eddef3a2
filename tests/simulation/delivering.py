"""`sink deliver` as a process of the simulation."""

import asyncio
from typing import Any

from operations.stages.deliver import delivery_reader
from runtime.clock import now
from runtime.losses import Losses
from runtime.reach import Reach
from schemas.codec import lead_codec, outcome_codec
from schemas.topics import DELIVERIES, LEADS, OUTCOMES
from sinks.consume import Source
from sinks.deliver.backlog import Backlog
from sinks.deliver.courier import Courier
from sinks.deliver.ledger import DeliveryLedger
from sinks.deliver.next_step import DeliverLimits, Fortune
from sinks.deliver.outlet import Outlet
from sinks.deliver.sink import DeliverSink
from sinks.fenced_log import FencedLog
from sinks.send.broker_clock import BrokerTime
from sinks.send.outcome_log import OutcomeLog
from tests.simulation.consumer import SimulatedConsumer
from tests.simulation.loop import Process
from tests.simulation.meta import CALL_SECONDS
from tests.simulation.producer import SimulatedProducer
from tests.simulation.receivers import Receiver, SimulatedClient
from tests.simulation.stages import METRICS, SECOND, Machine, consume, register

LIMITS = DeliverLimits(
    schedule=tuple(seconds * SECOND for seconds in (1, 2, 4, 8, 10)),
    failing_after=6,
    longest_pause=8 * SECOND,
    longest_wait=20 * SECOND,
    concurrent_calls=3,
    held_per_partition=3,
    held_bytes=700,
    call_timeout=CALL_SECONDS * SECOND,
)


async def deliver(machine: Machine, process: Process, stop: asyncio.Event) -> None:
    producer, reader = SimulatedProducer(machine.broker, linger=0.0), SimulatedConsumer(machine.broker)
    await producer.start()
    erasures, catch_up = await register(machine)
    clock = BrokerTime(now)
    log = FencedLog(OutcomeLog(DELIVERIES.name, reader, producer), clock)
    decoders = {LEADS.name: delivery_reader(lead_codec()), OUTCOMES.name: delivery_reader(outcome_codec())}
    sink = DeliverSink(
        [_outlet(machine, process, receiver) for receiver in machine.receivers.values()],
        Courier(DeliveryLedger(log, reader.end_offsets, DELIVERIES.name, clock), erasures, catch_up, clock, METRICS),
        Backlog(SimulatedConsumer(machine.broker), decoders),
        leads=LEADS.name,
        metrics=METRICS,
    )
    sources: dict[str, Source[Any]] = {
        topic.name: Source(decoders[topic.name], topic.dead_letters) for topic in (LEADS, OUTCOMES)
    }
    reach = Reach(Losses("leadstream sink deliver", METRICS), sorted({*sources, DELIVERIES.name}))
    await consume(machine, "deliver", sources, sink, producer, reach, stop)


def _outlet(machine: Machine, process: Process, receiver: Receiver) -> Outlet:
    client = SimulatedClient(receiver, LIMITS.call_timeout)
    return Outlet(receiver.destination, client, LIMITS, Fortune(LIMITS, lambda: machine.fraction(process.name)))
