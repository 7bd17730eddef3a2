"""A whole deployment under load: stages that are replaced one by one, a fake Meta, and what became of its webhooks."""

import asyncio
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from importlib import resources
from pathlib import Path
from time import monotonic
from typing import Any

import httpx
from aiokafka import ConsumerRecord

from leads.records import Lead
from operations.demo.observer import Observer
from runtime import kafka
from runtime.clock import now
from runtime.cluster import cluster_of
from runtime.ports import free_ports
from runtime.settings import Settings, variable
from runtime.topic_reading import whole_topic
from schemas.codec import lead_codec
from schemas.topics import LEADS
from simulator.campaign import LONGEST_LAG, Campaign, plan_campaign
from simulator.people import PAGES
from simulator.poster import GraphControl, Poster, at_rate, post_deliveries, retry_delays
from tests.faults.lab import eventually

STAGES = ("ingest", "streams", "sink send", "sink transcripts", "sink warehouse")
_SPAN = timedelta(minutes=30)
SECRET = "live-app-secret"
_RETRIES = 40
_PATIENCE = 300.0
_QUIET = 8.0


@dataclass(slots=True)
class _Quiet:
    """Whether a count has stood still for long enough: a lead that has closed is still changed by what comes late."""

    _count: int = -1
    _since: float = 0.0

    def holds(self, count: int) -> bool:
        if count != self._count:
            self._count, self._since = count, monotonic()
        return monotonic() > self._since + _QUIET


@dataclass(slots=True)
class Live:
    """One deployment. `posted` has every body that was answered 200, as often as it was."""

    settings: Settings
    home: Path
    graph_port: int
    posted: Counter[bytes] = field(default_factory=Counter)
    _running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    _ports: dict[str, int] = field(default_factory=dict)

    async def start(self, stage: str) -> None:
        """Start a stage on the ports that it had before, and wait until it is ready."""
        port = self._ports.setdefault(stage, free_ports())
        self._running[stage] = self._spawned(stage, "--admin-port", str(port))
        await eventually(lambda: self._is_ready(stage))

    def _spawned(self, command: str, *options: str) -> "subprocess.Popen[bytes]":
        with (self.home / f"{command.replace(' ', '-')}.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "cli", *command.split(), *options], env=self.environ, stdout=log, stderr=log
            )

    def fake_meta(self) -> "subprocess.Popen[bytes]":
        return self._spawned("simulate graph", "--port", str(self.graph_port), "--webhook", self.webhook_url)

    async def stop(self, stage: str) -> int:
        """End a stage as an operator does, and give its exit status."""
        ending = self._running.pop(stage)
        ending.send_signal(signal.SIGTERM)
        return await asyncio.to_thread(ending.wait, 60)

    async def replace(self, stage: str) -> int:
        """Stop a stage and start its successor; the exit status of the one that went."""
        status = await self.stop(stage)
        await self.start(stage)
        return status

    async def restart_ended(self) -> None:
        """What a supervisor does, until cancelled."""
        while True:
            for stage in [stage for stage, process in self._running.items() if process.poll() is not None]:
                await self.start(stage)
            await asyncio.sleep(1)

    def pids(self, stage: str) -> list[int]:
        """The stage's process, while it runs."""
        process = self._running[stage]
        return [process.pid] if process.poll() is None else []

    def respawn(self, stage: str) -> bool:
        """Start a stage again if it has ended, without waiting for it; whether it had."""
        if self._running[stage].poll() is None:
            return False
        self._running[stage] = self._spawned(stage, "--admin-port", str(self._ports[stage]))
        return True

    async def admin(self, stage: str, path: str) -> str:
        """What the admin port of a stage answers; empty while it does not."""
        async with httpx.AsyncClient() as http:
            try:
                return (await http.get(f"http://127.0.0.1:{self._ports[stage]}{path}")).text
            except httpx.TransportError:
                return ""

    def kill_all(self) -> None:
        for process in self._running.values():
            process.kill()
            process.wait()

    async def _is_ready(self, stage: str) -> bool:
        async with httpx.AsyncClient() as http:
            try:
                answer = await http.get(f"http://127.0.0.1:{self._ports[stage]}/readyz")
            except httpx.TransportError:
                return False
        return answer.status_code == httpx.codes.OK

    @property
    def webhook_url(self) -> str:
        return f"http://127.0.0.1:{self.settings.port}/webhooks/messenger"

    @property
    def environ(self) -> dict[str, str]:
        told = (
            "broker", "topic_prefix", "partitions", "replication", "state_dir", "pages", "followups", "graph_url",
            "warehouse", "port",
        )  # fmt: skip
        return {
            **{name: value for name, value in os.environ.items() if not name.startswith("LEADSTREAM_")},
            **{variable(name): str(getattr(self.settings, name)) for name in told},
            variable("app_id"): str(PAGES[0].target_app),
            variable("app_secrets"): SECRET,
            variable("verify_token"): "live-verify-token",
        }

    async def post(self, campaign: Campaign, *, per_second: float) -> None:
        """Post a campaign as Meta does, again what is not answered 200, until all of it is."""
        async with httpx.AsyncClient() as http:
            poster = self._poster(http)
            graph = GraphControl(http, self.settings.graph_url)
            journal = await post_deliveries(
                campaign.deliveries, poster, graph=graph, pace=at_rate(per_second), concurrency=16
            )
        assert all(posting.answered.status == httpx.codes.OK for posting in journal)
        self.posted.update(posting.delivery.body for posting in journal)

    async def post_bodies(self, bodies: Iterable[bytes]) -> None:
        """Post them one after the other, each again until it is answered 200."""
        async with httpx.AsyncClient() as http:
            poster = self._poster(http)
            for body in bodies:
                assert (await poster.post(body)).status == httpx.codes.OK
                self.posted[body] += 1

    def _poster(self, http: httpx.AsyncClient) -> Poster:
        return Poster(http, self.webhook_url, SECRET, delays=retry_delays(_RETRIES))

    async def metrics(self, stage: str) -> str:
        async with httpx.AsyncClient() as http:
            return (await http.get(f"http://127.0.0.1:{self._ports[stage]}/metrics")).text

    async def settled(self, leads: int) -> Observer:
        """Wait until there are so many leads, each closed, each command has ended, and nothing new comes."""
        observer, quiet = Observer(), _Quiet()
        watching = asyncio.create_task(observer.watch(cluster_of(self.settings), self.settings))
        try:
            await eventually(
                lambda: quiet.holds(observer.records.total()) and len(observer.leads) >= leads and observer.is_settled,
                within=_PATIENCE,
            )
        finally:
            watching.cancel()
            await asyncio.wait([watching])
        return observer

    async def leads(self) -> list[Lead]:
        """Every revision that is in `leads`."""
        return [lead_codec().decode(value) for value in await self.values(LEADS.name)]

    async def sends(self) -> dict[str, dict[str, int]]:
        """What the fake Meta did for each command: `calls` to the Send API, and the messages that came of it."""
        async with httpx.AsyncClient() as http:
            counted: dict[str, Any] = (await http.get(f"{self.settings.graph_url}/_simulator/sends")).json()
        return dict(counted["by_metadata"])

    async def values(self, topic: str) -> list[bytes]:
        """The values of a topic, whole."""
        return [record.value for record in await self.records(topic)]

    async def records(self, topic: str) -> list[ConsumerRecord]:
        """Every record of a topic."""
        async with kafka.consumer(cluster_of(self.settings), group=None, client_id="test") as consumer:
            runs = whole_topic(consumer, self.settings.topic(topic), self.settings.partitions)
            return [record async for records in runs for record in records]


def a_campaign(seed: int, *, leads: int) -> Campaign:
    return plan_campaign(seed, leads=leads, start=now() - _SPAN - LONGEST_LAG, span=_SPAN)


def told_sent(observer: Observer) -> set[str]:
    """The commands of which the ledger says that their message has reached Meta."""
    return {name for name, outcome in observer.outcomes.items() if outcome.status in ("sent", "delivered", "read")}


@asynccontextmanager
async def live_on(
    settings: Settings, home: Path, stages: Iterable[str] = STAGES, *, warehouse: str | None = None
) -> AsyncIterator[Live]:
    """These stages on topics that exist, with a fake Meta; all of it is killed in the end.

    The warehouse is a folder in `home` unless another is named.
    """
    examples = resources.files("simulator")
    graph_port = free_ports()
    live = Live(
        Settings(
            broker=settings.broker,
            topic_prefix=settings.topic_prefix,
            partitions=settings.partitions,
            replication=settings.replication,
            state_dir=home,
            pages=Path(str(examples / "demo_pages.yaml")),
            followups=Path(str(examples / "demo_followups.yaml")),
            graph_url=f"http://127.0.0.1:{graph_port}",
            warehouse=warehouse or str(home / "warehouse"),
            port=free_ports(),
        ),
        home,
        graph_port,
    )
    meta = live.fake_meta()
    try:
        await eventually(lambda: _answers(live.settings.graph_url))
        for stage in stages:
            await live.start(stage)
        yield live
    finally:
        live.kill_all()
        meta.kill()
        meta.wait()


async def _answers(url: str) -> bool:
    async with httpx.AsyncClient() as http:
        try:
            return (await http.get(f"{url}/_simulator/sends")).status_code == httpx.codes.OK
        except httpx.TransportError:
            return False
