"""The canary through the real processes: timed while all run, lost while one does not, and seen by nobody."""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from operations.deployment import expected_topics
from operations.local.processes import Processes
from operations.local.stack import CANARY_PORT, STAGES, admin_url
from runtime.cluster import Cluster
from runtime.ports import free_ports
from runtime.settings import Settings, variable
from runtime.topic_admin import apply_topics
from runtime.topic_reading import records_now
from schemas.topics import LEADS
from sinks.warehouse.query import ask
from sinks.warehouse.tables import NAMES

pytestmark = pytest.mark.integration


def test_a_canary_is_timed_or_lost_and_never_seen(kafka_broker: str, tmp_path: Path) -> None:
    settings = Settings(
        broker=kafka_broker,
        topic_prefix=f"canary-{os.getpid()}-",
        partitions=2,
        state_dir=tmp_path,
        warehouse=str(tmp_path / "warehouse"),
        port=free_ports(),
        admin_port=free_ports(CANARY_PORT + 1),
        # Where nobody is.
        graph_url=f"http://127.0.0.1:{free_ports()}",
    )
    asyncio.run(apply_topics(Cluster(kafka_broker), expected_topics(settings)))
    others = [stage for stage in (("ingest",), *STAGES) if stage != ("streams",)]

    with _running(settings, others):
        with _running(settings, [("streams",)]), _canary(settings) as canary:
            came_back = _await(canary, "leadstream_canary_seconds_count", 2)
            ready = httpx.get(f"{canary}/readyz").json()
        with _canary(settings) as canary:
            lost = _await(canary, "leadstream_canary_lost_total", 1)

    assert came_back["leadstream_canary_seconds_sum"] > 0
    assert ready["parts"]["canary"]["seen"].startswith("back after ")
    assert lost["leadstream_canary_seconds_count"] == 0
    assert asyncio.run(_records(settings)) == []
    assert not any(ask(settings.warehouse, f"select * from {name}").rows for name in (*NAMES, "lead_funnel"))
    listed = subprocess.run(
        [sys.executable, "-m", "cli", "leads", "list"],
        env=_environ(settings),
        capture_output=True,
        text=True,
        check=True,
    )
    assert "canary" not in listed.stdout


@contextmanager
def _running(settings: Settings, stages: Sequence[tuple[str, ...]]) -> Iterator[None]:
    with Processes(settings.state_dir / "logs", _environ(settings), print) as processes:
        for stage in stages:
            processes.start("-".join(stage), *stage, ready_url=admin_url(settings, stage[-1], "/readyz"))
        processes.await_ready()
        yield


@contextmanager
def _canary(settings: Settings) -> Iterator[str]:
    """A canary, by the address of its admin port."""
    url = settings.admin_url(settings.admin_port + CANARY_PORT)
    with Processes(settings.state_dir / "logs", _environ(settings), print) as processes:
        processes.start("canary", "canary", ready_url=f"{url}/healthz")
        processes.await_ready()
        yield url


def _await(canary: str, metric: str, least: int) -> Mapping[str, float]:
    """The metrics, once this one is as high as that; a canary is lost when the next is due."""
    deadline = time.monotonic() + 90
    while True:
        families = text_string_to_metric_families(httpx.get(f"{canary}/metrics").text)
        values = {sample.name: sample.value for family in families for sample in family.samples}
        if values[metric] >= least:
            return values
        assert time.monotonic() < deadline, httpx.get(f"{canary}/readyz").text
        time.sleep(0.2)


async def _records(settings: Settings) -> list[object]:
    topic = settings.topic(LEADS.name)
    return [record async for record in records_now(Cluster(str(settings.broker)), [topic], client_id="test")]


def _environ(settings: Settings) -> dict[str, str]:
    told = ("broker", "topic_prefix", "partitions", "state_dir", "warehouse", "port", "admin_port", "graph_url")
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith("LEADSTREAM_")},
        **{variable(name): str(getattr(settings, name)) for name in told},
        variable("app_id"): "2262510160704936",
        variable("app_secrets"): "test-app-secret",
        variable("verify_token"): "test-verify-token",
        # Also how long it may take: a busy machine needs more than a second at times.
        variable("canary"): "5s",
    }
