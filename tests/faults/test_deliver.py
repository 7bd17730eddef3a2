"""Twenty thousand leads to four endpoints, three of them ill, while sinks are killed and frozen: all arrive."""

import asyncio
import random
import signal
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec
import pytest
import yaml

from leads.records import LeadId
from runtime import kafka
from runtime.cluster import cluster_of
from runtime.settings import Settings
from schemas.codec import lead_codec
from schemas.topics import DELIVERIES, LEADS
from sinks.deliver.records import Position, entry_of
from tests.builders import a_lead
from tests.faults.deliver_worker import HOUR
from tests.faults.lab import REPO, eventually
from tests.integration.deliver_cluster import a_destination, revisions_in
from tests.integration.topics import connected, records_of
from tests.receiver import Behave, Post, Receiver, Reply, receiving

pytestmark = [pytest.mark.faults, pytest.mark.anyio]

COUNT = 20_000
# Four endpoints, with the receivers and two sinks on the same two cores.
PER_SECOND = 25
WORKERS = 2
# Longer than a consumer's session: its partitions go to the other worker meanwhile.
FROZEN_SECONDS = 14


@dataclass(slots=True)
class Sinks:
    """Workers as processes of their own."""

    settings: Settings
    logs: Path
    running: list[asyncio.subprocess.Process] = field(default_factory=list)
    started: int = 0
    faults: list[str] = field(default_factory=list)

    async def start(self) -> None:
        settings = self.settings
        arguments = (settings.broker, settings.topic_prefix, settings.partitions, settings.destinations)
        self.started += 1
        with (self.logs / f"deliver-{self.started}.log").open("wb") as log:
            command = (sys.executable, "-m", "tests.faults.deliver_worker", *map(str, arguments))
            worker = await asyncio.create_subprocess_exec(*command, cwd=REPO, stdout=log, stderr=log)
        self.running.append(worker)

    async def hurt(self, rng: random.Random) -> None:
        """Kill, freeze or stop one of the workers; another takes its place, or it goes on."""
        worker, fault = rng.choice(self.running), ("kill", "freeze", "stop")[len(self.faults) % 3]
        self.faults.append(fault)
        if fault == "freeze":
            worker.send_signal(signal.SIGSTOP)
            await asyncio.sleep(FROZEN_SECONDS)
            worker.send_signal(signal.SIGCONT)
            return
        worker.send_signal(signal.SIGKILL if fault == "kill" else signal.SIGTERM)
        status = await worker.wait()
        assert status == (-signal.SIGKILL if fault == "kill" else 0), f"see {self.logs}"
        self.running.remove(worker)
        await self.start()

    async def end(self) -> None:
        for worker in self.running:
            if worker.returncode is None:
                worker.send_signal(signal.SIGCONT)
                worker.kill()
            await worker.wait()


def ill(began: float) -> Mapping[str, Behave]:
    """`hanging` answers nobody for an hour and hangs at times later; `turning` answers 500 for three seconds of six."""

    async def hanging(post: Post) -> Reply:
        if post.at < began + HOUR or hash(post.webhook_id + str(post.at)) % 200 == 0:
            await asyncio.sleep(60)
        return 200, ""

    async def turning(post: Post) -> Reply:
        return (500 if int(post.at) // 3 % 2 else 200), ""

    return {"hanging": hanging, "turning": turning}


async def die_for_an_hour(receiver: Receiver) -> None:
    await asyncio.sleep(2 * HOUR)
    await receiver.close()
    await asyncio.sleep(HOUR)
    await receiver.open()


@asynccontextmanager
async def endpoints() -> AsyncIterator[dict[str, Receiver]]:
    async with AsyncExitStack() as stack:
        yield {
            name: await stack.enter_async_context(receiving()) for name in ("healthy", "hanging", "turning", "dying")
        }


async def publish(settings: Settings) -> dict[tuple[str, int], float]:
    """Publish the leads at an even pace, each fifth with a second revision a moment later; gives when each came."""
    codec, topic, came = lead_codec(), settings.topic(LEADS.name), dict[tuple[str, int], float]()
    async with connected(kafka.producer(cluster_of(settings), client_id="test", linger_ms=0)) as producer:
        began = time.monotonic()
        for number in range(COUNT):
            revisions = [(number, 1)] + ([(number - 100, 2)] if number % 5 == 0 and number >= 100 else [])
            for of, revision in revisions:
                lead = a_lead(lead_id=LeadId(f"lead-{of}"), revision=revision, psid=f"7{of:06}")
                came[lead.lead_id, revision] = time.time()
                await producer.send(topic, codec.encode(lead), key=lead.lead_id.encode())
            await asyncio.sleep(max(0, began + number / PER_SECOND - time.monotonic()))
        await producer.flush()
    return came


@pytest.mark.parametrize("kafka_topics", [8], indirect=True)
async def test_everything_arrives_in_order_with_one_id_whatever_happens(kafka_topics: Settings, tmp_path: Path) -> None:
    rng = random.Random(7)
    async with endpoints() as receivers:
        path = tmp_path / "destinations.yaml"
        listed = [a_destination(name, receiver) for name, receiver in receivers.items()]
        path.write_text(yaml.safe_dump({"destinations": listed}))
        settings = replace(kafka_topics, destinations=path)
        sinks = Sinks(settings, tmp_path)
        try:
            for _ in range(WORKERS):
                await sinks.start()
            await eventually(lambda: _have_begun(settings))
            for name, behave in ill(time.time()).items():
                receivers[name].behave = behave
            dying = asyncio.create_task(die_for_an_hour(receivers["dying"]))
            publishing = asyncio.create_task(publish(settings))
            while not publishing.done():
                await asyncio.sleep(rng.uniform(30, 60))
                await sinks.hurt(rng)
            came = publishing.result()
            await dying
            takers = receivers.values()
            await eventually(lambda: all(len(receiver.taken_ids) >= len(came) for receiver in takers), within=1800)
        finally:
            await sinks.end()

    ids: defaultdict[tuple[str, int], set[str]] = defaultdict(set)
    for name, receiver in receivers.items():
        assert receiver.forged == [], name
        assert _taken(receiver) == came.keys(), name
        assert _first_takes_in_order(receiver), name
        for post in receiver.posts:
            data = msgspec.json.decode(post.body)["data"]
            ids[data["lead_id"], data["revision"]].add(post.webhook_id)
    assert {len(found) for found in ids.values()} == {1}
    assert len({webhook_id for found in ids.values() for webhook_id in found}) == len(came)
    waits = _waits(receivers["healthy"], came)
    posts = ", ".join(f"{name} {len(receiver.posts)}" for name, receiver in receivers.items())
    slowest = statistics.quantiles(waits, n=100)[98]
    print(f"{len(came)} revisions, {len(sinks.faults)} faults, posts: {posts}")  # noqa: T201 - figures of a long run
    print(f"healthy: median {statistics.median(waits):.3f} s, 99th {slowest:.2f} s")  # noqa: T201
    assert statistics.median(waits) < 1


async def _have_begun(settings: Settings) -> bool:
    """Whether each destination has a position in each partition: what comes now is newer than its first start."""
    records = await records_of(settings, settings.topic(DELIVERIES.name))
    entries = [(record.partition, entry_of(record)) for record in records]
    begun = {(partition, entry.destination) for partition, entry in entries if isinstance(entry, Position)}
    return len(begun) == 4 * settings.partitions


def _taken(receiver: Receiver) -> set[tuple[str, int]]:
    return set(revisions_in(receiver))


def _first_takes_in_order(receiver: Receiver) -> bool:
    """Whether of each lead the revisions that a receiver acts on, which ignores ids that it has seen, ascend."""
    newest: dict[str, int] = {}
    seen: set[str] = set()
    for post, (lead_id, revision) in zip(receiver.taken, revisions_in(receiver), strict=True):
        if post.webhook_id in seen:
            continue
        seen.add(post.webhook_id)
        if revision < newest.get(lead_id, 0):
            return False
        newest[lead_id] = revision
    return True


def _waits(receiver: Receiver, came: Mapping[tuple[str, int], float]) -> list[float]:
    first: dict[tuple[str, int], float] = {}
    for post, key in zip(receiver.taken, revisions_in(receiver), strict=True):
        first.setdefault(key, post.at)
    return [first[key] - at for key, at in came.items()]
