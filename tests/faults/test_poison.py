"""One input never costs the rest: what ends streams a few times is set aside, and everything else goes on."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiokafka import TopicPartition

from messenger.events import Psid
from operations.deployment import Deployment
from operations.doctor.kafka import examine_set_aside
from operations.reporting import OperationError
from operations.skip import require_ahead, skipped_places
from runtime import kafka
from runtime.clock import now
from runtime.cluster import cluster_of
from runtime.health import SET_ASIDE
from runtime.ports import free_ports
from runtime.settings import Settings
from runtime.suspect import MOST_ENDS
from schemas.codec import lead_codec
from schemas.topics import EVENTS, LEADS, WEBHOOKS, Topic
from tests.builders import PAGE
from tests.e2e.test_pipeline import signals_of
from tests.faults.poisoned_streams import POISON, POISONED, WORDS
from tests.integration.test_streams_process import Streams, eventually, is_ready, parts_of
from tests.integration.topics import connected

pytestmark = [pytest.mark.anyio, pytest.mark.faults]

BEFORE, AFTER = Psid("7100000000000001"), Psid("7100000000000002")


@pytest.fixture
async def streams(kafka_topics: Settings, tmp_path: Path) -> AsyncIterator[Streams]:
    streams = Streams(kafka_topics, tmp_path)
    yield streams
    await streams.stop()


def a_message(psid: str, text: str) -> bytes:
    item = {
        "sender": {"id": psid},
        "recipient": {"id": PAGE},
        "timestamp": int(now().timestamp() * 1000),
        "message": {"mid": f"m_{psid}", "text": text},
    }
    return json.dumps({"object": "page", "entry": [{"id": PAGE, "messaging": [item]}]}).encode()


class Supervisor:
    """Starts the poisoned process again whenever it ends."""

    def __init__(self, streams: Streams, stage: str, *skips: str) -> None:
        self.ends, self.port = 0, free_ports()
        self._streams, self._arguments = streams, (stage, str(self.port), *skips)

    async def run(self) -> None:
        while True:
            process = await self._streams.start("tests.faults.poisoned_streams", *self._arguments)
            assert await process.wait() == 1
            self.ends += 1


async def leads_of(streams: Streams) -> set[str]:
    leads = [lead_codec().decode(record.value) for record in await streams.records(LEADS.name)]
    return {lead.psid for lead in leads if lead.answers}


@pytest.mark.parametrize(
    ("stage", "topic", "people"),
    [
        ("split", WEBHOOKS, {BEFORE, AFTER}),
        ("join", EVENTS, {BEFORE, AFTER, Psid(POISONED)}),
        ("deadline", EVENTS, {BEFORE, AFTER, Psid(POISONED)}),
    ],
)
async def test_what_raises_ends_streams_a_few_times_and_is_then_set_aside(
    streams: Streams, stage: str, topic: Topic, people: set[Psid]
) -> None:
    poison = a_message(POISONED, POISON.decode() if stage == "split" else "hello")
    signals = signals_of(Psid(POISONED), now())
    of_poisoned = {"join": list(signals.values()), "deadline": [signals["referral"]], "split": []}[stage]
    await streams.put_webhooks(*signals_of(BEFORE, now()).values(), poison, *of_poisoned)
    supervisor = Supervisor(streams, stage)
    running = asyncio.create_task(supervisor.run())

    async def is_set_aside() -> bool:
        return bool(await streams.records(topic.dead_letters))

    await eventually(is_set_aside)
    await streams.put_webhooks(*signals_of(AFTER, now()).values())

    async def has_all() -> bool:
        return people <= await leads_of(streams)

    await eventually(has_all)
    deployment = Deployment(streams.settings, cluster_of(streams.settings))

    async def nothing_is_suspected() -> bool:
        return all(verdict.check != "suspects" for verdict in await examine_set_aside(deployment, []))

    # The next commit says that the suspect is done with.
    await eventually(nothing_is_suspected)
    ready, parts = await is_ready(supervisor.port), await parts_of(supervisor.port)
    running.cancel()
    letters = await streams.records(topic.dead_letters)
    verdicts = await examine_set_aside(deployment, [])
    said = "".join(path.read_text() for path in streams.home.glob("*.log"))

    assert supervisor.ends == MOST_ENDS
    assert ready
    assert re.search("ArithmeticError .*raised at ", parts[SET_ASIDE]["seen"])
    [letter] = letters
    headers = dict(letter.headers)
    assert headers["__connect.errors.exception.class.name"] == b"ArithmeticError"
    assert [(verdict.check, verdict.standing) for verdict in verdicts] == [("set aside", "broken")]
    assert "ArithmeticError" in verdicts[0].seen
    assert headers["__connect.errors.stage"] == (b"split" if stage == "split" else b"join")
    assert stage != "split" or letter.value == poison
    assert WORDS not in said
    assert POISONED not in said


async def test_an_operator_skips_a_record_before_it_ends_streams_again(streams: Streams) -> None:
    poison = a_message(POISONED, POISON.decode())
    await streams.put_webhooks(poison, *signals_of(AFTER, now()).values())
    [place] = [record for record in await streams.records(WEBHOOKS.name) if record.value == poison]
    supervisor = Supervisor(streams, "split", f"{WEBHOOKS.name}:{place.partition}:{place.offset}")
    running = asyncio.create_task(supervisor.run())

    async def has_lead() -> bool:
        return AFTER in await leads_of(streams)

    await eventually(has_lead)
    running.cancel()

    [letter] = await streams.records(WEBHOOKS.dead_letters)
    assert supervisor.ends == 0
    assert letter.value == poison
    assert dict(letter.headers)["__connect.errors.exception.message"] == b"skipped by an operator"


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("messenger-webhooks:0:0", "is at offset 1 and the log ends at 2"),
        ("messenger-webhooks:0:2", "is at offset 1 and the log ends at 2"),
        ("messenger-webhooks:9:0", "has no partition 9"),
        ("leads:0:0", "this command reads messenger-webhooks, messenger-events"),
        ("messenger-webhooks:one:0", "expected TOPIC:PARTITION:OFFSET"),
    ],
)
async def test_a_record_that_is_passed_or_not_there_cannot_be_skipped(
    kafka_topics: Settings, place: str, said: str
) -> None:
    topic, group = kafka_topics.topic(WEBHOOKS.name), kafka_topics.topic("leadstream")
    async with connected(kafka.producer(cluster_of(kafka_topics), client_id="test")) as producer:
        for value in (b"passed", b"next"):
            await producer.send_and_wait(topic, value, partition=0)
    async with connected(kafka.consumer(cluster_of(kafka_topics), group=group, client_id="test")) as consumer:
        consumer.assign([TopicPartition(topic, 0)])
        await consumer.commit({TopicPartition(topic, 0): 1})

    def skip() -> None:
        deployment = Deployment(kafka_topics, cluster_of(kafka_topics))
        require_ahead(deployment, group, skipped_places(kafka_topics, [place], (WEBHOOKS, EVENTS)), print)

    with pytest.raises(OperationError, match=said):
        await asyncio.to_thread(skip)
