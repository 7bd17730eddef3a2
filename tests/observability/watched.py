"""A deployment between a fake Meta and a destination, and a real Prometheus that scrapes it each second."""

import asyncio
import json
import os
import re
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from importlib import resources
from math import isnan
from pathlib import Path
from typing import Any

import httpx
import yaml

from docs.generate import OBSERVABILITY
from leads.pages import Pages
from operations.configuration import load_pages
from operations.deployment import expected_topics
from operations.local.processes import Processes
from operations.local.stack import BACKFILL_PORT, CANARY_PORT, DOCTOR_PORT, HAND_OFFS, STAGES
from runtime.clock import now
from runtime.cluster import Cluster
from runtime.ports import free_ports
from runtime.settings import Settings, variable
from runtime.topic_admin import apply_topics
from simulator.campaign import PlannedDelivery
from simulator.people import LEAD_FORMS, PAGES
from simulator.poster import GraphControl, Poster, post_deliveries
from simulator.server import serve_graph
from simulator.world import GraphConfig
from tests.integration.deliver_cluster import a_destination
from tests.receiver import Receiver

SECRET = "test-app-secret"
_JOB = "leadstream"
# Only there so that a failure ends.
_PATIENCE = 420.0
# The durations of the rules are shorter by this; a Page is compared with yesterday, and that is made a minute ago.
_FASTER = {"LeadstreamPageSilent": 24 * 60}
_FAST = 60
# An age is compared with it: no duration to Prometheus, and a minute here.
_DAY = "> 24 * 3600"
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_DURATION = re.compile(r'(?<!["\w])(\d+)([smhd])\b(?!")')


@dataclass(slots=True, kw_only=True)
class Prometheus:
    """A Prometheus at `url` that scrapes the admin ports of `targets`, by stage; `home` has its files."""

    home: Path
    url: str
    targets: dict[str, int] = field(default_factory=dict)

    def watch(self, name: str, port: int) -> None:
        self.targets[name] = port
        self._write_targets()

    def unwatch(self, name: str) -> None:
        """Returns once Prometheus scrapes it no more, so that it may end."""
        del self.targets[name]
        self._write_targets()
        up = f'up{{stage="{name}"}}'
        await_true(lambda: not self.ask(up), lambda: f"{name} is still scraped")

    def _write_targets(self) -> None:
        groups = [{"targets": [f"127.0.0.1:{port}"], "labels": {"stage": name}} for name, port in self.targets.items()]
        path = self.home / "targets.json"
        unfinished = path.with_suffix(".new")
        unfinished.write_text(json.dumps(groups))
        unfinished.rename(path)

    def ask(self, query: str) -> list[dict[str, Any]]:
        """The result of an instant query."""
        return self._ask("query", {"query": query})

    def values(self, query: str, since: float) -> list[float]:
        """Every number that a range query has for each second since then."""
        words = {"query": query, "start": str(since), "end": str(time.time()), "step": "1"}
        found = [float(value) for series in self._ask("query_range", words) for _, value in series["values"]]
        return [value for value in found if not isnan(value)]

    def _ask(self, path: str, words: dict[str, str]) -> list[dict[str, Any]]:
        answer = httpx.post(f"{self.url}/api/v1/{path}", data=words, timeout=30, trust_env=False).json()
        assert answer["status"] == "success", f"{words['query']}: {answer}"
        result: list[dict[str, Any]] = answer["data"]["result"]
        return result

    def fired(self) -> set[str]:
        """The alerts that have fired so far."""
        series = self.ask('max_over_time(ALERTS{alertstate="firing"}[1h])')
        return {alert["metric"]["alertname"] for alert in series}

    def await_alert(self, name: str) -> None:
        await_true(lambda: name in self.fired(), lambda: f"{name} does not fire: {self.ask('ALERTS')}")


@dataclass(slots=True, kw_only=True)
class Watched(Prometheus):
    """A deployment whose stages are scraped; `streams` are processes of their own."""

    settings: Settings
    environ: dict[str, str]
    graph_url: str
    receiver: Receiver
    stages: Processes
    streams: Processes

    def post(self, deliveries: Sequence[PlannedDelivery]) -> None:
        """Post campaigns as Meta does; the fake Graph hears of their threads first."""

        async def post() -> None:
            async with httpx.AsyncClient(trust_env=False) as http:
                poster = Poster(http, f"http://127.0.0.1:{self.settings.port}/webhooks/messenger", SECRET)
                postings = await post_deliveries(deliveries, poster, graph=GraphControl(http, self.graph_url))
            assert {posting.answered.status for posting in postings} == {200}

        asyncio.run(post())

    def tell_graph(self, path: str, told: object) -> None:
        httpx.put(f"{self.graph_url}/_simulator/{path}", json=told, trust_env=False).raise_for_status()


def await_true(holds: Callable[[], bool], seen: Callable[[], str]) -> None:
    deadline = time.monotonic() + _PATIENCE
    while not holds():
        assert time.monotonic() < deadline, seen()
        time.sleep(0.5)


def hurried(rules: str) -> str:
    """The rules with shorter durations; all else stays."""
    shown = yaml.safe_load(rules)
    for rule in shown["groups"][0]["rules"]:
        factor = _FASTER.get(rule["alert"], _FAST)
        rule["expr"] = rule["expr"].replace(_DAY, "> 60")
        for key in ("expr", "for"):
            rule[key] = _DURATION.sub(partial(_shorter, factor=factor), rule[key])
    return yaml.safe_dump(shown)


def _shorter(match: "re.Match[str]", *, factor: int) -> str:
    seconds = int(match[1]) * _SECONDS[match[2]]
    return f"{max(2, seconds // factor) if seconds else 0}s"


@contextmanager
def watched_deployment(broker: str, home: Path, prefix: str) -> Iterator[Watched]:
    """Everything runs and is scraped; the token of each Page ends in three days."""
    graph_port, prometheus_port, admin_port = free_ports(), free_ports(), free_ports(11)
    simulator = resources.files("simulator")
    settings = Settings(
        broker=broker, topic_prefix=prefix, partitions=2, state_dir=home / "state", port=free_ports(),
        admin_port=admin_port, pages=Path(str(simulator / "demo_pages.yaml")),
        followups=Path(str(simulator / "demo_followups.yaml")), warehouse=str(home / "warehouse"),
        graph_url=f"http://127.0.0.1:{graph_port}", spool_bytes=2**20, destinations=home / "destinations.yaml",
    )  # fmt: skip
    asyncio.run(apply_topics(Cluster(broker), expected_topics(settings)))
    told = (
        *("broker", "topic_prefix", "partitions", "state_dir", "port", "admin_port", "pages", "followups"),
        *("warehouse", "graph_url", "spool_bytes", "destinations"),
    )
    environ = {
        **os.environ,
        **{variable(name): str(getattr(settings, name)) for name in told},
        variable("app_id"): str(PAGES[0].target_app),
        variable("app_secrets"): SECRET,
        variable("verify_token"): "test-verify-token",
        variable("canary"): "20s",
    }
    receiver = Receiver()
    with ExitStack() as stack:
        webhook = f"http://127.0.0.1:{settings.port}/webhooks/messenger"
        stack.enter_context(_graph(graph_port, webhook, load_pages(settings, environ), receiver))
        settings.destinations.write_text(yaml.safe_dump({"destinations": [a_destination("crm", receiver)]}))
        stages = stack.enter_context(Processes(home / "logs", environ, lambda _: None))
        streams = stack.enter_context(Processes(home / "logs", environ, lambda _: None))
        watched = Watched(
            home=home,
            url=f"http://127.0.0.1:{prometheus_port}",
            settings=settings,
            environ=environ,
            graph_url=settings.graph_url,
            receiver=receiver,
            stages=stages,
            streams=streams,
        )
        _start(watched)
        stack.enter_context(running_prometheus(home, prometheus_port))
        await_true(lambda: len(watched.ask("up == 1")) == len(watched.targets), lambda: str(watched.ask("up")))
        yield watched


def _start(watched: Watched) -> None:
    admin_port = watched.settings.admin_port
    names = ["ingest", *("-".join(stage) for stage in STAGES)]
    urls = {name: watched.settings.admin_url(admin_port + number) for number, name in enumerate(names)}
    for name, command in zip(names, (("ingest",), *STAGES), strict=True):
        processes = watched.streams if name == "streams" else watched.stages
        processes.start(name, *command, ready_url=f"{urls[name]}/readyz")
    watched.stages.await_ready()
    watched.streams.await_ready()
    doctor, backfill = admin_port + DOCTOR_PORT, admin_port + BACKFILL_PORT
    asked = [f"--stage={name}={url}" for name, url in urls.items()]
    alive = f"{watched.settings.admin_url(doctor)}/healthz"
    watched.stages.start("doctor", "doctor", "--every=1", *asked, ready_url=alive)
    alive = f"{watched.settings.admin_url(backfill)}/healthz"
    watched.stages.start("backfill", "backfill", "--every=24", ready_url=alive)
    canary = admin_port + CANARY_PORT
    watched.stages.start("canary", "canary", ready_url=f"{watched.settings.admin_url(canary)}/healthz")
    hand_offs = {f"sink-{name}": admin_port + number for name, number in HAND_OFFS.items()}
    for name, port in hand_offs.items():
        watched.stages.start(name, *name.split("-"), ready_url=f"{watched.settings.admin_url(port)}/readyz")
    watched.stages.await_ready()
    ports = {name: admin_port + number for number, name in enumerate(names)}
    lookouts = {"doctor": doctor, "backfill": backfill, "canary": canary}
    for name, port in {**ports, **lookouts, **hand_offs}.items():
        watched.watch(name, port)


@contextmanager
def _graph(port: int, webhook: str, pages: Pages, receiver: Receiver) -> Iterator[None]:
    """A fake Meta in a thread, beside the receiver: its command has no option for the end of a token."""
    config = GraphConfig(
        app_id=PAGES[0].target_app,
        app_secret=SECRET,
        page_tokens={page.page_id: page.access_token for page in pages if page.access_token},
        data_sets={page.page_id: page.conversions.data_set for page in pages if page.conversions is not None},
        lead_forms=LEAD_FORMS,
        token_expires_at=now() + timedelta(days=3),
        report_delivery=True,
        report_read=True,
    )
    ready, ends = threading.Event(), list[Callable[[], object]]()

    async def serve() -> None:
        stop, loop = asyncio.Event(), asyncio.get_running_loop()
        await receiver.open()
        ends.append(lambda: loop.call_soon_threadsafe(stop.set))
        async with httpx.AsyncClient(trust_env=False) as http:
            poster = Poster(http, webhook, SECRET)
            async with serve_graph(config, seed=1, clock=now, port=port, webhook=poster):
                ready.set()
                await stop.wait()
        await receiver.close()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    assert ready.wait(30)
    try:
        yield
    finally:
        ends[0]()
        thread.join(30)


@contextmanager
def running_prometheus(home: Path, port: int) -> Iterator[None]:
    (home / "alerts.yaml").write_text(hurried((OBSERVABILITY / "prometheus/alerts.yaml").read_text(encoding="utf-8")))
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": ["alerts.yaml"],
        "scrape_configs": [{"job_name": _JOB, "file_sd_configs": [{"files": ["targets.json"]}]}],
    }
    (home / "prometheus.yaml").write_text(yaml.safe_dump(config))
    command = [
        *("prometheus", f"--config.file={home}/prometheus.yaml", f"--storage.tsdb.path={home}/tsdb"),
        *(f"--web.listen-address=127.0.0.1:{port}", "--log.level=warn"),
    ]
    with (home / "prometheus.log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            ready = f"http://127.0.0.1:{port}/-/ready"
            await_true(lambda: _answers(ready), lambda: (home / "prometheus.log").read_text())
            yield
        finally:
            process.terminate()


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, trust_env=False).is_success
    except httpx.TransportError:
        return False
