"""The streams process on a real Kafka: how it ends, and that nothing is lost or drained by it."""

import asyncio
import json
import os
import re
import signal
import socket
import sys
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from aiokafka import TopicPartition

from leads.diff import fingerprint
from leads.records import Lead
from messenger.events import PageId, PolicyEnforced, Psid, person_key
from operations.deployment import expected_topics
from runtime import kafka
from runtime.clock import now
from runtime.cluster import cluster_of
from runtime.kafka import partition_of
from runtime.ports import free_ports
from runtime.settings import Settings, variable
from runtime.topic_admin import apply_topics
from schemas.codec import command_codec, event_codec, lead_codec
from schemas.topics import COMMANDS, EVENTS, JOIN_STATE, LEADS, WEBHOOKS, Topic
from tests.builders import PAGE
from tests.e2e.test_pipeline import signals_of
from tests.integration.topics import connected, put, records_of

pytestmark = [pytest.mark.anyio, pytest.mark.integration]

PERSON = Psid("7100000000000001")
# Only there so that a failure ends: on a busy machine a process starts in half a minute.
_PATIENCE = 300


@dataclass(slots=True)
class Streams:
    """Processes on the topics of one test, each with its output in a file."""

    settings: Settings
    home: Path
    started: list[asyncio.subprocess.Process] = field(default_factory=list)

    async def start(self, *arguments: str) -> asyncio.subprocess.Process:
        told = ("broker", "topic_prefix", "partitions")
        environ = {variable(name): str(getattr(self.settings, name)) for name in told}
        with (self.home / f"{len(self.started)}.log").open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", *arguments, stdout=log, stderr=log, env={**os.environ, **environ}
            )
        self.started.append(process)
        return process

    def output(self) -> str:
        """What the newest process has written."""
        return (self.home / f"{len(self.started) - 1}.log").read_text()

    async def put_webhooks(self, *bodies: bytes) -> None:
        await put(self.settings, self.settings.topic(WEBHOOKS.name), *((PAGE.encode(), body) for body in bodies))

    async def records(self, topic: str) -> list[Any]:
        return await records_of(self.settings, self.settings.topic(topic))

    async def uncommitted(self, topic: Topic) -> int:
        """How many offsets of a topic the group has not committed."""
        partitions = [
            TopicPartition(self.settings.topic(topic.name), number) for number in range(self.settings.partitions)
        ]
        group = self.settings.topic("leadstream")
        async with connected(kafka.consumer(cluster_of(self.settings), group=group, client_id="test")) as consumer:
            ends = await consumer.end_offsets(partitions)
            return sum([ends[partition] - (await consumer.committed(partition) or 0) for partition in partitions])

    async def stop(self) -> None:
        for process in self.started:
            if process.returncode is None:
                process.kill()
            await process.wait()


@pytest.fixture
async def streams(kafka_topics: Settings, tmp_path: Path) -> AsyncIterator[Streams]:
    streams = Streams(kafka_topics, tmp_path)
    yield streams
    await streams.stop()


async def eventually(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(_PATIENCE):
        while not await condition():  # noqa: ASYNC110 - it is another process that makes it true
            await asyncio.sleep(0.2)


async def parts_of(port: int) -> dict[str, Any]:
    async with httpx.AsyncClient() as http:
        parts: dict[str, Any] = (await http.get(f"http://127.0.0.1:{port}/readyz")).json()["parts"]
        return parts


async def ended(process: asyncio.subprocess.Process) -> int:
    return await asyncio.wait_for(process.wait(), _PATIENCE)


async def is_ready(port: int) -> bool:
    return await asyncio.to_thread(_is_ready, port)


def _is_ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=2) as response:
            return bool(response.status == 200)
    except OSError:
        # Also a TimeoutError while the answer is read, which urllib does not wrap.
        return False


@pytest.mark.parametrize(("stage", "topic"), [("split", WEBHOOKS), ("join", EVENTS)], ids=["split", "join"])
async def test_a_bug_ends_the_process_with_offsets_unmoved_and_nothing_dead_lettered(
    streams: Streams, stage: str, topic: Topic
) -> None:
    await streams.put_webhooks(signals_of(PERSON, now())["handover"])

    status = await ended(await streams.start("tests.integration.buggy_streams", stage))
    uncommitted = await streams.uncommitted(topic)
    said = streams.output()
    await streams.start("cli", "streams", "--admin-port=0")
    await eventually(lambda: has_lead(streams))

    assert status == 1
    assert uncommitted > 0
    assert "WorkerCrashed: an unforeseen ArithmeticError" in said
    assert await streams.records(topic.dead_letters) == []


async def test_state_of_another_version_is_rebuilt_from_the_log_and_gives_the_same_leads(streams: Streams) -> None:
    signals = signals_of(PERSON, now())
    await streams.put_webhooks(signals["handover"], signals["referral"])
    worker = await streams.start("cli", "streams", "--admin-port=0")
    await eventually(lambda: has_revisions(streams, [1, 2]))
    worker.terminate()
    await ended(worker)
    before = await leads_of(streams)
    changelog = streams.settings.topic(JOIN_STATE.name)
    of_another_version = [(state.key, b"\x00" + state.value[1:]) for state in await streams.records(JOIN_STATE.name)]
    await put(streams.settings, changelog, *of_another_version)
    await streams.put_webhooks(signals["summary"])

    status = await ended(await streams.start("cli", "streams", "--admin-port=0"))
    said, uncommitted = streams.output(), await streams.uncommitted(EVENTS)
    rebuilt = await ended(await streams.start("cli", "replay", "rebuild", "--yes"))
    await streams.start("cli", "streams", "--admin-port=0")
    await eventually(lambda: has_revisions(streams, [1, 2, 1, 2, 3]))

    assert (status, rebuilt) == (1, 0)
    assert (
        "the join's state is of version 0, and this release reads version 1: stop all streams workers,"
        " run `leadstream replay rebuild`, and start them again"
    ) in said.splitlines()[-1]
    assert uncommitted > 0
    assert await streams.records(EVENTS.dead_letters) == []
    after = await leads_of(streams)
    assert fingerprint(after[: len(before)]) == fingerprint(after[len(before) : -1]) == fingerprint(before)


async def test_the_state_of_a_running_join_is_not_emptied(streams: Streams) -> None:
    port = free_ports()
    await streams.start("cli", "streams", f"--admin-port={port}")
    await eventually(lambda: is_ready(port))

    status = await ended(await streams.start("cli", "replay", "rebuild", "--yes"))

    assert (status, "streams is running: stop all of its workers first" in streams.output()) == (1, True)


async def leads_of(streams: Streams) -> list[Lead]:
    return [lead_codec().decode(record.value) for record in await streams.records(LEADS.name)]


async def has_revisions(streams: Streams, revisions: list[int]) -> bool:
    return [lead.revision for lead in await leads_of(streams)] == revisions


async def has_lead(streams: Streams) -> bool:
    return any(lead_codec().decode(record.value).psid == PERSON for record in await streams.records(LEADS.name))


async def test_too_many_dead_letters_end_the_process_before_they_are_written(streams: Streams) -> None:
    await streams.put_webhooks(*(b"junk %d" % number for number in range(4)))

    status = await ended(await streams.start("cli", "streams", "--admin-port=0", "--dead-letters=3"))
    said, uncommitted = streams.output(), await streams.uncommitted(WEBHOOKS)
    written = await streams.records(WEBHOOKS.dead_letters)
    await streams.start("cli", "streams", "--admin-port=0", "--dead-letters=4")
    await eventually(lambda: is_committed(streams))

    assert (status, uncommitted, written) == (1, 4, [])
    topic = streams.settings.topic(WEBHOOKS.name)
    assert (
        f"streams stopped: TooManyDeadLetters: more than 3 dead letters a minute of {topic}/" in said.splitlines()[-1]
    )
    assert {record.value for record in await streams.records(WEBHOOKS.dead_letters)} == {
        b"junk %d" % n for n in range(4)
    }


async def is_committed(streams: Streams) -> bool:
    return await streams.uncommitted(WEBHOOKS) == 0


async def test_an_event_that_kafka_refuses_ends_the_process_with_offsets_unmoved(streams: Streams) -> None:
    name = streams.settings.topic(EVENTS.name)
    (events,) = [topic for topic in expected_topics(streams.settings) if topic.name == name]
    too_small = replace(events, config={**events.config, "max.message.bytes": "100"})
    await apply_topics(cluster_of(streams.settings), [too_small])
    await streams.put_webhooks(signals_of(PERSON, now())["handover"])

    status = await ended(await streams.start("cli", "streams", "--admin-port=0"))
    said, uncommitted = streams.output(), await streams.uncommitted(WEBHOOKS)
    await apply_topics(cluster_of(streams.settings), [events])
    await streams.start("cli", "streams", "--admin-port=0")
    await eventually(lambda: has_lead(streams))

    assert (status, uncommitted) == (1, 1)
    assert "streams stopped: DeliveryFailed: not acked by Kafka" in said.splitlines()[-1]


async def test_workers_share_the_work_and_stop_together(streams: Streams) -> None:
    port = free_ports()
    parent = await streams.start("cli", "streams", "--workers=2", f"--admin-port={port}")
    await eventually(lambda: is_ready(port))
    await eventually(lambda: is_ready(port + 100))

    parent.send_signal(signal.SIGTERM)

    assert await ended(parent) == 0
    assert not await is_ready(port)
    assert not await is_ready(port + 100)


async def test_a_worker_that_dies_ends_the_others(streams: Streams) -> None:
    port = free_ports()
    parent = await streams.start("cli", "streams", "--workers=2", f"--admin-port={port}")
    await eventually(lambda: is_ready(port))
    await eventually(lambda: is_ready(port + 100))

    worker = ("--parent", str(parent.pid), "--full", "--", f"--admin-port={port + 100}$")
    assert await ended(await asyncio.create_subprocess_exec("pkill", "-KILL", *worker)) == 0

    assert await ended(parent) == 1
    assert streams.output().splitlines()[-1] == "Error: worker 1 ended with status -9; the others were stopped"
    assert not await is_ready(port)


async def test_workers_whose_ports_are_taken_do_not_start(streams: Streams) -> None:
    port = free_ports()
    with socket.create_server(("127.0.0.1", port + 100)):
        status = await ended(await streams.start("cli", "streams", "--workers=2", f"--admin-port={port}"))

    assert status == 1
    assert f"127.0.0.1:{port + 100} for health and metrics of streams worker 1 is taken" in streams.output()


async def test_a_quiet_process_logs_nothing_at_all(streams: Streams) -> None:
    port = free_ports()
    process = await streams.start("cli", "streams", f"--admin-port={port}")
    await eventually(lambda: is_ready(port))
    process.terminate()

    assert await ended(process) == 0
    assert [
        line for line in streams.output().splitlines() if '"level": "info"' in line or not line.startswith("{")
    ] == []


async def test_what_concerns_a_page_is_told_to_every_partition_of_its_people(streams: Streams) -> None:
    block = {"recipient": {"id": "542998526103632"}, "timestamp": 1, "policy_enforcement": {"action": "block"}}
    entry = {"id": "542998526103632", "time": 1, "messaging": [block]}
    await streams.put_webhooks(json.dumps({"object": "page", "entry": [entry]}).encode())
    await streams.start("cli", "streams", "--admin-port", str(free_ports()))

    async def told_to() -> list[int]:
        events = [
            (record.partition, event_codec().decode(record.value)) for record in await streams.records(EVENTS.name)
        ]
        return sorted(partition for partition, event in events if isinstance(event, PolicyEnforced))

    await eventually(lambda: _are(told_to, streams.settings.partitions))

    assert await told_to() == list(range(streams.settings.partitions))


async def test_a_block_cancels_what_is_planned_for_people_of_the_page_whose_worker_has_died_since(
    streams: Streams, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rules = tmp_path / "followups.yaml"
    rules.write_text("rules: [{name: later, wait_for: answers, after: 1h, send: {text: Hello}}]")
    monkeypatch.setenv(variable("followups"), str(rules))
    people = [Psid(f"710000000000000{number}") for number in range(8)]
    await streams.put_webhooks(*(body for psid in people for body in signals_of(psid, now()).values()))
    process = await streams.start("cli", "streams", "--admin-port", str(free_ports()))
    await eventually(lambda: _are(lambda: _answered(streams), len(people)))
    process.kill()

    for action in ("block", "unblock"):
        item = {"recipient": {"id": PAGE}, "timestamp": 1, "policy_enforcement": {"action": action}}
        await streams.put_webhooks(
            json.dumps({"object": "page", "entry": [{"id": PAGE, "messaging": [item]}]}).encode()
        )
    await streams.start("cli", "streams", "--admin-port", str(free_ports()))
    await eventually(lambda: _are(lambda: streams.records(COMMANDS.name), len(people)))

    commands = [command_codec().decode(record.value) for record in await streams.records(COMMANDS.name)]
    assert sorted((command.psid, command.rule, command.cancel_reason) for command in commands) == [
        (psid, "later", "page_blocked") for psid in people
    ]
    assert len({record.partition for record in await streams.records(COMMANDS.name)}) == streams.settings.partitions


async def _answered(streams: Streams) -> list[str]:
    leads = [lead_codec().decode(record.value) for record in await streams.records(LEADS.name)]
    return list({lead.psid for lead in leads if lead.answers})


async def _are(found: Callable[[], Awaitable[Sequence[object]]], count: int) -> bool:
    return len(await found()) >= count


class Worker:
    """A worker with a port of its own, and the partitions that it has of both topics."""

    def __init__(self, process: asyncio.subprocess.Process, port: int) -> None:
        self.process, self.port = process, port

    async def partitions(self) -> set[int]:
        async with httpx.AsyncClient() as http:
            metrics = (await http.get(f"http://127.0.0.1:{self.port}/metrics")).text
        lags = re.findall(r'^leadstream_consumer_lag\{partition="(\d+)",topic="\S*(webhooks|events)"\}', metrics, re.M)
        split, joined = (
            {int(number) for number, topic in lags if topic == wanted} for wanted in ("webhooks", "events")
        )
        return split & joined


@pytest.mark.parametrize("kafka_topics", [8], indirect=True)
async def test_a_worker_that_is_frozen_delays_no_lead_of_a_page_that_it_does_not_split(streams: Streams) -> None:
    """Within the time after which the group gives its partitions to the other."""
    first = free_ports(2)
    frozen, running = [
        Worker(await streams.start("cli", "streams", f"--admin-port={port}"), port) for port in (first, first + 1)
    ]
    await eventually(lambda: is_ready(frozen.port))
    await eventually(lambda: is_ready(running.port))

    async def share_all() -> bool:
        return len(await frozen.partitions()) == len(await running.partitions()) == 4

    await eventually(share_all)
    ours = await running.partitions()
    pages = (PageId(str(number)) for number in range(1000, 2000))
    page_id = next(page for page in pages if partition_of(page.encode(), 8) in ours)
    people = (Psid(str(number)) for number in range(7000, 8000))
    psid = next(psid for psid in people if partition_of(person_key(page_id, psid).encode(), 8) in ours)
    body = signals_of(psid, now())["referral"].replace(PAGE.encode(), page_id.encode())

    frozen.process.send_signal(signal.SIGSTOP)
    await put(streams.settings, streams.settings.topic(WEBHOOKS.name), (page_id.encode(), body))
    async with asyncio.timeout(8):
        while not await streams.records(LEADS.name):  # noqa: ASYNC110 - it is another process that makes it true
            await asyncio.sleep(0.1)
    still_frozen = await running.partitions() == ours
    frozen.process.send_signal(signal.SIGCONT)

    [lead] = [lead_codec().decode(record.value) for record in await streams.records(LEADS.name)]
    assert (lead.page_id, lead.psid, still_frozen) == (page_id, psid, True)
