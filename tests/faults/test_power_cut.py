"""One node and a power cut: what was acknowledged is there afterwards. `power.py` says what is simulated."""

import asyncio
import os
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Collection, Iterable
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import NewTopic

from messenger.events import Psid
from operations.deployment import expected_topics
from runtime.clock import now
from runtime.cluster import Cluster
from runtime.local_kafka.node import KafkaNode
from runtime.ports import free_ports
from runtime.settings import Settings
from runtime.topic_admin import apply_topics
from schemas.topics import COMMANDS, OUTCOMES, TOPICS, Topic
from tests.faults.audited import findings_alone
from tests.faults.cluster import admin_of
from tests.faults.fleet import Fleet, all_is_committed, fleet_on
from tests.faults.front_door import Comparison, IngestProcess, Meta, compare
from tests.faults.lab import eventually
from tests.faults.meta import fake_meta
from tests.faults.power import Power, power_supply
from tests.faults.rig import page_of
from tests.faults.test_followups import final_outcomes, put_commands
from tests.integration.topics import records_of
from tests.unit.sinks.fakes import a_command

pytestmark = [pytest.mark.faults, pytest.mark.anyio]

_PEOPLE = 6


@dataclass(frozen=True, slots=True)
class Machine:
    """A node with its topics, on a disk that loses in a cut what was not synced."""

    node: KafkaNode
    power: Power
    settings: Settings

    async def start(self) -> None:
        """As a command, for what it syncs itself counts too."""
        arguments = ("kafka", "start", "--port", str(self.node.port), "--state-dir", str(self.node.state_dir))
        starting = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "cli", *arguments, env={**os.environ, **self.power.environ}
        )
        assert await starting.wait() == 0

    async def cut(self) -> None:
        running = self.node.status()
        assert running is not None
        os.kill(running.pid, signal.SIGKILL)
        await eventually(lambda: self.node.status() is None)
        self.power.cut(self.node.state_dir / "kafka" / "data")

    async def create_topics(self, *, in_memory: Iterable[Topic] = ()) -> None:
        """As `topics apply` does it, but some with Kafka's default, an acknowledgement out of memory."""
        names = {self.settings.topic(topic.name) for topic in in_memory}
        wanted = expected_topics(self.settings)
        async with admin_of(str(self.settings.broker)) as admin:
            await admin.create_topics(
                [NewTopic(t.name, t.partitions, 1, topic_configs=dict(t.config)) for t in wanted if t.name in names]
            )
        await apply_topics(Cluster(str(self.settings.broker)), [topic for topic in wanted if topic.name not in names])


@pytest.fixture
async def machine(tmp_path: Path) -> AsyncIterator[Machine]:
    power = power_supply(tmp_path / "power")
    port = free_ports()
    machine = Machine(KafkaNode(tmp_path, port), power, Settings(broker=f"127.0.0.1:{port}", partitions=2))
    await machine.start()
    yield machine
    await asyncio.to_thread(machine.node.stop)


async def acknowledged(settings: Settings) -> Counter[str]:
    """Write to every topic, and return how many records of each Kafka has acknowledged."""
    written: Counter[str] = Counter()
    async with AIOKafkaProducer(bootstrap_servers=settings.broker, acks="all") as producer:
        for number in range(10):
            for topic in TOPICS:
                await producer.send_and_wait(settings.topic(topic.name), b"%d" % number, key=b"%d" % number)
                written[topic.name] += 1
    return written


async def present(settings: Settings) -> Counter[str]:
    return Counter({topic.name: len(await records_of(settings, settings.topic(topic.name))) for topic in TOPICS})


async def test_every_acknowledged_record_of_every_topic_survives(machine: Machine) -> None:
    await machine.create_topics()
    written = await acknowledged(machine.settings)
    await machine.cut()
    await machine.start()

    assert await present(machine.settings) == written


async def test_the_cut_takes_what_was_acknowledged_in_memory(machine: Machine) -> None:
    """The same without the setting, so that the test above is known to be one."""
    await machine.create_topics(in_memory=TOPICS)
    await acknowledged(machine.settings)
    await machine.cut()
    await machine.start()

    assert (await present(machine.settings)).total() == 0


async def test_every_webhook_that_was_answered_200_survives_in_kafka_or_in_the_spool(
    machine: Machine, tmp_path: Path
) -> None:
    """Kafka loses its power, ingest goes on into the spool and then loses its own."""
    ingest = IngestProcess(
        tmp_path, str(machine.settings.broker), {**machine.power.environ, "LEADSTREAM_PARTITIONS": "2"}
    )
    await machine.create_topics()
    await ingest.start()
    try:
        meta = Meta(ingest.port)
        await meta.post_all(range(300), connections=8)
        await machine.cut()
        await meta.post_all(range(300, 320), connections=4)
        await ingest.kill()
        machine.power.cut(tmp_path / "spool")
        await machine.start()
        await ingest.start()
        await ingest.drained()
        comparison = await compare(ingest.broker, meta.journal)
    finally:
        await ingest.kill_if_alive()

    assert sum(receipt.startswith("spool/") for receipt in meta.journal.receipts.values()) >= 20
    assert replace(comparison, copies=0) == Comparison(missing=0, foreign=0, events=320, misplaced=0, copies=0)


@pytest.mark.parametrize(
    ("in_memory", "faults"),
    [((), set()), ((OUTCOMES,), {"texted_twice", "texted_before_the_attempt"})],
    ids=["flushed", "in-memory"],
)
async def test_nobody_is_texted_again(
    machine: Machine, tmp_path: Path, in_memory: Collection[Topic], faults: set[str]
) -> None:
    """Offsets are lost in both cases, so that the sink reads every command again; only the ledger knows them."""
    window = {"not_before": now() - timedelta(minutes=1), "not_after": now() + timedelta(hours=1)}
    commands = [
        a_command(f"c{number}", page_id=page_of(0), psid=Psid(f"7{number:06}"), **window) for number in range(_PEOPLE)
    ]
    await machine.create_topics(in_memory=in_memory)
    async with fake_meta(machine.settings, seed=3) as meta, fleet_on(machine.settings, meta.port, tmp_path) as fleet:
        meta.world.faults.plan("messages", rates={})
        meta.open_threads(commands, set())
        await put_commands(machine.settings, commands)
        await _until_sent(machine.settings, fleet)
        await fleet.end()
        await machine.cut()
        await machine.start()
        again = not await all_is_committed(machine.settings, "send", COMMANDS)
        await _until_sent(machine.settings, fleet)
        found = await findings_alone(machine.settings, fleet.job.graph_url)

    assert again
    assert {finding.what for finding in found} == faults


async def _until_sent(settings: Settings, fleet: Fleet) -> None:
    await fleet.start()
    await eventually(lambda: all_is_committed(settings, "send", COMMANDS))
    assert {outcome.status for outcome in (await final_outcomes(settings)).values()} <= {"sent", "delivered", "read"}
