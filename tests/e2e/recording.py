"""A campaign in the raw topic of a cluster, live processes that work on it, and `leadstream` commands beside them."""

import asyncio
import csv
import io
import os
import random
import signal
import subprocess
import sys
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from time import monotonic
from typing import Any

from starlette.types import Receive, Scope, Send

from ingest.copies import copies_of
from leads.facts import TranscriptFetched
from leads.records import Lead
from runtime import kafka
from runtime.admin import serve
from runtime.clock import now
from runtime.cluster import cluster_of
from runtime.settings import Settings, variable
from runtime.topic_reading import whole_topic
from schemas.codec import Codec, event_codec, lead_codec
from schemas.topics import EVENTS, LEADS, TRANSCRIPTS, WEBHOOKS
from simulator.campaign import Campaign, PlannedDelivery
from simulator.graph import create_graph
from simulator.people import PAGES
from simulator.world import GraphConfig, World
from tests.conftest import free_port

_TOLD = ("broker", "topic_prefix", "partitions", "state_dir", "pages", "graph_url", "warehouse")
_PATIENCE = 600.0
_BETWEEN_LOOKS = 1.0


@dataclass(slots=True)
class CountedGraph:
    """The simulator's Graph API; `calls` counts what comes over HTTP, to any endpoint, `asked_at` when a Page's
    conversations were asked for."""

    world: World
    calls: int = 0
    asked_at: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.calls += scope["type"] == "http"
        if scope["type"] == "http" and scope["path"].endswith("/conversations"):
            self.asked_at[scope["path"]].append(monotonic())
        await create_graph(self.world, now)(scope, receive, send)

    def most_conversation_calls_in_a_second(self) -> int:
        """The most of any Page in any second, whenever it began."""
        return max(
            sum(begin <= moment < begin + 1 for moment in moments)
            for moments in self.asked_at.values()
            for begin in moments
        )


@dataclass(slots=True)
class Recording:
    """One test's cluster. What it starts is killed at the end of the block."""

    settings: Settings
    home: Path
    graph: CountedGraph
    stack: AsyncExitStack
    started: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @classmethod
    async def on(
        cls, settings: Settings, home: Path, stack: AsyncExitStack, *, join_wait: timedelta = timedelta(seconds=3)
    ) -> "Recording":
        """Over topics that exist, with a Graph API of its own."""
        world = World(GraphConfig(app_id=PAGES[0].target_app), random.Random(1), lambda _: None)
        graph = CountedGraph(world)
        port = await stack.enter_async_context(serve(graph, "127.0.0.1", free_port()))
        made = cls(_with_files(settings, home, f"http://127.0.0.1:{port}", join_wait), home, graph, stack)
        stack.callback(made.kill_all)
        return made

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        """A `leadstream` process with its log in `home`."""
        with (self.home / f"{'-'.join(arguments[:2])}-{len(self.started)}.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "cli", *arguments, f"--admin-port={free_port()}"],
                env=self.environ,
                stdout=log,
                stderr=log,
            )
        self.started.append(process)
        return process

    def kill_all(self) -> None:
        for process in self.started:
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.kill()
            process.wait()

    async def run(self, *arguments: str, status: int = 0, with_errors: bool = True, folder: Path | None = None) -> str:
        """What a `leadstream` command prints, or that of another `folder`; it must end with this status."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "cli",
            *arguments,
            cwd=folder,
            env=self.environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT if with_errors else subprocess.PIPE,
        )
        printed, errors = await process.communicate()
        assert process.returncode == status, f"{printed!r} {errors!r}"
        return printed.decode()

    @property
    def environ(self) -> dict[str, str]:
        return {
            **{name: value for name, value in os.environ.items() if not name.startswith("LEADSTREAM_")},
            **{variable(name): str(getattr(self.settings, name)) for name in _TOLD},
        }

    async def write(self, deliveries: Sequence[PlannedDelivery], *, per_second: float | None = None) -> None:
        """Put webhooks into the raw topic as ingest would, and what Meta knows by then into the Graph API."""
        topic, loop = self.settings.topic(WEBHOOKS.name), asyncio.get_running_loop()
        began = loop.time()
        async with kafka.producer(cluster_of(self.settings), client_id="test") as producer:
            for number, delivery in enumerate(deliveries):
                if per_second is not None:
                    await asyncio.sleep(max(0.0, began + number / per_second - loop.time()))
                self.graph.world.threads.learn(delivery.news, now())
                for copy in copies_of(delivery.body, {}):
                    await producer.send(topic, delivery.body, **copy._asdict())
            await producer.flush()

    async def leads(self) -> list[Lead]:
        """Every revision in `leads`."""
        return await self._read(LEADS.name, lead_codec())

    async def transcripts(self) -> list[TranscriptFetched]:
        events = await self._read(EVENTS.name, event_codec())
        return [event for event in events if isinstance(event, TranscriptFetched)]

    async def count(self, topic: str) -> int:
        return len(await self.raw(topic))

    async def until_the_warehouse_has(self, revisions: dict[str, int]) -> None:
        """Wait until `leads` of the warehouse has exactly these revisions by lead."""
        await _eventually(lambda: self._has_in_the_warehouse(revisions))

    async def _has_in_the_warehouse(self, revisions: dict[str, int]) -> bool:
        printed = await self.run("warehouse", "sql", "select lead_id, revision from leads", "--format", "csv")
        return {row["lead_id"]: int(row["revision"]) for row in csv.DictReader(io.StringIO(printed))} == revisions

    async def until_closed(self, leads: int) -> None:
        """Wait until there are so many leads and all are closed."""

        async def are_closed() -> bool:
            newest = newest_of(await self.leads())
            return len(newest) >= leads and all(lead.closed for lead in newest.values())

        await _eventually(are_closed)

    async def until_live_is_done(self, campaign: Campaign) -> None:
        """Wait until every lead of the campaign is closed and every transcript that was asked for is in."""
        await _eventually(lambda: self._is_done(len(campaign.leads)))

    async def _is_done(self, leads: int) -> bool:
        newest = newest_of(await self.leads())
        if len(newest) < leads or not all(lead.closed for lead in newest.values()):
            return False
        asked = {key for key, _ in await self.raw(TRANSCRIPTS.name)}
        facts = await self.transcripts()
        told = {f"{fact.page_id}:{fact.psid}".encode() for fact in facts}
        known = {lead.lead_id for lead in newest.values() if lead.answers_source == "transcript"}
        return asked <= told and {fact.lead_id for fact in facts if fact.answers} <= known | _with_better(newest)

    async def _read(self, topic: str, codec: Codec[Any]) -> list[Any]:
        return [codec.decode(value) for _, value in await self.raw(topic) if value is not None]

    async def raw(self, topic: str) -> list[tuple[bytes, bytes | None]]:
        """Every key and value of a topic; a tombstone has no value."""
        async with kafka.consumer(cluster_of(self.settings), group=None, client_id="test") as consumer:
            runs = whole_topic(consumer, self.settings.topic(topic), self.settings.partitions)
            return [(record.key, record.value) async for records in runs for record in records]


def newest_of(leads: Sequence[Lead]) -> dict[str, Lead]:
    """The highest revision of each lead."""
    return {lead.lead_id: lead for lead in sorted(leads, key=lambda lead: lead.revision)}


def _with_better(newest: dict[str, Lead]) -> set[str]:
    return {lead.lead_id for lead in newest.values() if lead.answers_source in ("referral", "summary")}


def _with_files(settings: Settings, home: Path, graph_url: str, join_wait: timedelta) -> Settings:
    pages = home / "pages.yaml"
    lines = [
        f'  "{page.page_id}": {{access_token: page-token, target_app: "{page.target_app}",'
        f" join_wait: {join_wait.seconds}s}}"
        for page in PAGES
    ]
    pages.write_text("\n".join(["pages:", *lines]) + "\n")
    return Settings(
        broker=settings.broker,
        topic_prefix=settings.topic_prefix,
        partitions=settings.partitions,
        state_dir=home,
        pages=pages,
        graph_url=graph_url,
        warehouse=str(home / "warehouse"),
    )


async def _eventually(holds: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(_PATIENCE):
        while not await holds():  # noqa: ASYNC110 - it is Kafka that we ask
            await asyncio.sleep(_BETWEEN_LOOKS)
