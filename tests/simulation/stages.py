"""The stages as processes of the simulation: the product's own parts over simulated clients."""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import time, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import httpx
from aiokafka import TopicPartition

from ingest.access_log import AccessLog
from ingest.body import BodyBudget
from ingest.keeper import Keeper
from ingest.publisher import Publisher
from ingest.spool.queue import Spool
from ingest.webhooks import Webhooks
from leads.erasures import Erasures
from leads.pages import Page, Pages
from leads.records import FollowUpMessage
from leads.rules import AnswerCondition, QuietHours, Rule, RuleStep
from messenger.client import GraphClient
from runtime.clock import now
from runtime.health import Health
from runtime.losses import Losses
from runtime.metrics import Metrics
from runtime.reach import Reach
from runtime.settings import Settings
from runtime.topic_reading import CatchUp, catching_up
from schemas.codec import command_codec, event_codec, outcome_codec, transcript_request_codec
from schemas.topics import COMMANDS, ERASURES, EVENTS, OUTCOMES, TRANSCRIPTS, WEBHOOKS
from sinks.consume import Consume, Source, Stage
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
from sinks.warehouse.rows import warehouse_sources
from sinks.warehouse.sink import WarehouseSink
from sinks.warehouse.tables import tables_by_topic
from tests.simulation.broker import Broker
from tests.simulation.consumer import SimulatedConsumer
from tests.simulation.disk import Disk, SimulatedSpoolFile
from tests.simulation.loop import Process, SimulatedLoop
from tests.simulation.meta import CALL_SECONDS, OUR_APP, SECRET, Meta, Wire
from tests.simulation.people import BUDGET, CITY, PAGES
from tests.simulation.producer import SimulatedProducer
from tests.simulation.receivers import Receiver
from tests.simulation.streams import Streams
from tests.simulation.warehouse import Rows, SimulatedWarehouse

SECOND = timedelta(seconds=1)
PARTITIONS = 2
SETTINGS = Settings(partitions=PARTITIONS)
METRICS = Metrics()
LIMITS = SendLimits(
    call_timeout=CALL_SECONDS * SECOND,
    quarantine=2 * CALL_SECONDS * SECOND,
    ask_owner_after=4 * SECOND,
    page_pause=5 * SECOND,
)
_SPOOL_BYTES = 1024 * 1024


def _steps(name: str, *delays: int) -> tuple[RuleStep, ...]:
    return tuple(RuleStep(FollowUpMessage(f"{name} {number}"), after * SECOND) for number, after in enumerate(delays))


RULES = (
    Rule(name="thanks", outcome="complete", steps=_steps("thanks", 0, 15)),
    Rule(
        name="vip", outcome="complete", wait_for="answers", answers=(AnswerCondition(BUDGET, equals="high"),),
        steps=_steps("vip", 8),
    ),
    Rule(
        name="offer", outcome="complete", cancel_on=frozenset(), quiet_hours=QuietHours(time(9), time(9, 1)),
        steps=_steps("offer", 5),
    ),
    Rule(name="second-chance", outcome="incomplete", within=3 * SECOND, steps=_steps("second-chance", 6, 20)),
)  # fmt: skip
OTHER_RULES = (RULES[0], RULES[3], Rule(name="news", outcome="complete", steps=_steps("news", 3)))
PAGES_NOW = Pages(
    Page(
        page_id,
        access_token=f"token-{number}",
        target_app=OUR_APP,
        join_wait=15 * SECOND,
        questions=(BUDGET, CITY),
        min_gap=gap * SECOND,
    )
    for number, (page_id, gap) in enumerate(zip(PAGES, (0, 0, 10), strict=True))
)


@dataclass
class Machine:
    """Shared by all processes; `rules` are those of the next start of a streams worker."""

    loop: SimulatedLoop
    broker: Broker
    meta: Meta
    rules: Sequence[Rule] = RULES
    disks: dict[str, Disk] = field(default_factory=dict)
    rows: Rows = field(default_factory=Rows)
    doors: dict[str, tuple[Process, Webhooks]] = field(default_factory=dict)
    receivers: dict[str, Receiver] = field(default_factory=dict)

    def fraction(self, name: str) -> float:
        return self.loop.dice.draw(f"fraction {name}")


async def ingest(machine: Machine, process: Process, stop: asyncio.Event) -> None:
    disk = machine.disks.setdefault(process.name, Disk(machine.loop))
    publisher = Publisher(lambda: SimulatedProducer(machine.broker), SETTINGS.topic(WEBHOOKS.name))
    spool = Spool(Path(process.name), _SPOOL_BYTES, open_file=lambda _: SimulatedSpoolFile(disk))  # type: ignore[arg-type, return-value]
    keeper = Keeper(publisher, spool, try_refused_again=20 * SECOND)
    instance = f"{int(machine.fraction(process.name) * (1 << 56)):016x}"
    log = AccessLog(len, instance)
    webhooks = Webhooks(keeper, METRICS, log, BodyBudget(), secrets=(SECRET,), verify_token="v", instance=instance)
    machine.doors[process.name] = process, webhooks
    works: tuple[Any, ...] = (publisher.stay_connected(), keeper.drain(), stop.wait())
    working = [asyncio.ensure_future(work) for work in works]
    done, _ = await asyncio.wait(working, return_when=asyncio.FIRST_COMPLETED)
    machine.doors.pop(process.name, None)
    for task in working:
        task.cancel()
    await asyncio.wait(working)
    await spool.close()
    for task in done:
        task.result()


async def streams(machine: Machine, process: Process, stop: asyncio.Event) -> None:
    await Streams(machine.broker, SETTINGS, PAGES_NOW, machine.rules, METRICS).run(stop)


async def register(machine: Machine) -> tuple[Erasures, CatchUp]:
    """The register of erasures, whole, and what brings it up to date."""
    erasures, reader = Erasures(), SimulatedConsumer(machine.broker, idle=0.0)
    places = [TopicPartition(SETTINGS.topic(ERASURES.name), number) for number in range(PARTITIONS)]
    reader.assign(places)
    await reader.seek_to_beginning(*places)
    catch_up = catching_up(reader, partial(reader.end_offsets, places), erasures.note)
    await catch_up(to_end=True)
    return erasures, catch_up


async def consume(
    machine: Machine,
    name: str,
    sources: Mapping[str, Source[Any]],
    stage: Stage[Any],
    producer: Any,
    reach: Reach,
    stop: asyncio.Event,
) -> None:
    consumer = SimulatedConsumer(machine.broker, group=SETTINGS.topic(f"leadstream-{name}"))
    await consumer.start()
    consuming: Consume[Any] = Consume(
        consumer, producer, sources, stage,
        name=name, metrics=METRICS, health=Health(), clock=machine.loop.time, reach=reach,
    )  # fmt: skip
    await consuming.run(stop)
    await consumer.stop()


def _graph(machine: Machine) -> GraphClient:
    http = httpx.AsyncClient(transport=Wire(machine.meta), trust_env=False)
    return GraphClient("http://graph.test", "v25.0", http, timeout=LIMITS.call_timeout)


async def send(machine: Machine, process: Process, stop: asyncio.Event) -> None:
    producer, reader = SimulatedProducer(machine.broker, linger=0.0), SimulatedConsumer(machine.broker)
    await producer.start()
    await reader.start()
    erasures, catch_up = await register(machine)
    clock, commands, events = BrokerTime(now), SETTINGS.topic(COMMANDS.name), SETTINGS.topic(EVENTS.name)
    outcomes = OutcomeLog(SETTINGS.topic(OUTCOMES.name), reader, producer)
    courier = Courier(
        Ledger(outcomes, outcome_codec(), clock),
        _graph(machine),
        PAGES_NOW,
        clock=clock,
        fraction=lambda: machine.fraction(process.name),
        metrics=METRICS,
        limits=LIMITS,
        partitions=PARTITIONS,
    )

    async def committed(places: Collection[TopicPartition]) -> dict[TopicPartition, int]:
        offsets = machine.broker.groups[SETTINGS.topic("leadstream")].committed
        found = await machine.broker.ask(
            "join progress", 0, lambda: {tp: offsets[tp] for tp in places if tp in offsets}
        )
        return {place: offset.offset for place, offset in found.items()}

    sink = SendSink(
        courier,
        Ahead(reader, command_codec()),
        commands=commands,
        join=JoinProgress(committed, now),
        erasures=erasures,
        catch_up=catch_up,
    )
    sources: dict[str, Source[Any]] = {
        commands: Source(
            command_reader(command_codec(), PARTITIONS), SETTINGS.topic(COMMANDS.dead_letters), takes_tombstones=True
        ),
        events: Source(event_reader(event_codec()), SETTINGS.topic(EVENTS.dead_letters)),
    }
    losses = Losses("leadstream sink send", METRICS)
    await consume(
        machine, "send", sources, sink, producer, Reach(losses, sorted({*sources, SETTINGS.topic(OUTCOMES.name)})), stop
    )


async def transcripts(machine: Machine, process: Process, stop: asyncio.Event) -> None:
    producer = SimulatedProducer(machine.broker, linger=0.0)
    await producer.start()
    erasures, catch_up = await register(machine)
    sink = TranscriptSink(
        _graph(machine),
        producer,
        SETTINGS.topic(WEBHOOKS.name),
        event_codec(),
        PAGES_NOW,
        now=now,
        fraction=lambda: machine.fraction(process.name),
        metrics=METRICS,
        partitions=PARTITIONS,
        erasures=erasures,
        catch_up=catch_up,
    )
    requests = transcript_request_codec()
    sources = {
        SETTINGS.topic(TRANSCRIPTS.name): Source(
            lambda record: requests.decode(record.value), SETTINGS.topic(TRANSCRIPTS.dead_letters)
        )
    }
    reach = Reach(Losses("leadstream sink transcripts", METRICS), list(sources))
    await consume(machine, "transcripts", sources, sink, producer, reach, stop)


async def warehouse(machine: Machine, process: Process, stop: asyncio.Event) -> None:
    producer = SimulatedProducer(machine.broker)
    await producer.start()
    tables = tables_by_topic(SETTINGS.topic)
    losses = Losses("leadstream sink warehouse", METRICS)
    sink = WarehouseSink(SimulatedWarehouse(machine.rows, tables), tables, now=now, metrics=METRICS, losses=losses)
    sources = warehouse_sources(SETTINGS.topic)
    await consume(machine, "warehouse", sources, sink, producer, Reach(None, list(sources)), stop)


STAGES = {"ingest": ingest, "streams": streams, "send": send, "transcripts": transcripts, "warehouse": warehouse}
