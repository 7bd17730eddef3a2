"""How long the first follow-up of a lead takes from the POST of its webhook to Meta, on an idle machine."""

import asyncio
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from statistics import quantiles

import httpx
import pytest

from messenger.events import Psid
from operations.deployment import expected_topics
from operations.local.processes import Processes
from operations.local.stack import admin_url
from runtime.clock import now, to_millis
from runtime.cluster import Cluster
from runtime.ports import free_ports
from runtime.settings import Settings, variable
from runtime.topic_admin import apply_topics
from tests.benchmarks.conftest import Note
from tests.e2e.pipeline import PAGES_YAML, SECRET, Pipeline
from tests.e2e.test_pipeline import post, signals_of
from tests.unit.sinks.fakes import PAGE

pytestmark = [pytest.mark.anyio, pytest.mark.benchmark]

_WARM_UP = 10
_COUNTED = 100
_RULES = "rules: [{name: thanks, wait_for: answers, send: {text: Thanks}}]"
_TOLD = ("broker", "topic_prefix", "partitions", "state_dir", "pages", "followups", "port", "admin_port", "graph_url")

_log = logging.getLogger(__name__)


@contextmanager
def _everything(broker: str, home: Path) -> Iterator[Pipeline]:
    """Ingest, streams and the send sink, over a fake Meta."""
    graph_port = free_ports()
    settings = Settings(
        broker=broker,
        topic_prefix=f"bench-follow-up-{os.getpid()}-",
        partitions=4,
        state_dir=home,
        pages=home / "pages.yaml",
        followups=home / "followups.yaml",
        graph_url=f"http://127.0.0.1:{graph_port}",
        port=free_ports(),
        admin_port=free_ports(3),
    )
    settings.pages.write_text(PAGES_YAML)
    settings.followups.write_text(_RULES)
    asyncio.run(apply_topics(Cluster(broker), expected_topics(settings)))
    environ = {
        **{name: value for name, value in os.environ.items() if not name.startswith("LEADSTREAM_")},
        **{variable(name): str(getattr(settings, name)) for name in _TOLD},
        variable("app_id"): "2262510160704936",
        variable("app_secrets"): SECRET,
        variable("verify_token"): "test-verify-token",
    }
    with Processes(home / "logs", environ, _log.info) as processes:
        graph = f"{settings.graph_url}/_simulator/sends"
        processes.start("meta", "simulate", "graph", "--port", str(graph_port), ready_url=graph)
        processes.start("ingest", "ingest", ready_url=admin_url(settings, "ingest", "/readyz"))
        processes.start("streams", "streams", ready_url=admin_url(settings, "streams", "/readyz"))
        processes.start("send", "sink", "send", ready_url=admin_url(settings, "send", "/readyz"))
        processes.await_ready()
        yield Pipeline(settings, processes)


@pytest.fixture
def everything(kafka_broker: str, tmp_path: Path) -> Iterator[Pipeline]:
    with _everything(kafka_broker, tmp_path) as running:
        yield running


async def _sent_at(http: httpx.AsyncClient, url: str, count: int) -> dict[str, int]:
    """The time, in milliseconds, at which each person got a message, as soon as so many did."""
    async with asyncio.timeout(60):
        while True:
            messages = (await http.get(f"{url}/_simulator/messages")).json()["data"]
            if len(messages) >= count:
                return {message["psid"]: message["at"] for message in messages}
            await asyncio.sleep(0.2)


async def test_post_to_follow_up(everything: Pipeline, note: Note) -> None:
    url = everything.settings.graph_url
    people = [Psid(f"74000000000{number:04}") for number in range(_WARM_UP + _COUNTED)]
    posted_at: dict[str, int] = {}
    async with httpx.AsyncClient() as http:
        threads: list[dict[str, object]] = [
            {"page_id": PAGE, "psid": psid, "owner": None, "last_user_message_at": to_millis(now()), "lines": []}
            for psid in people
        ]
        (await http.put(f"{url}/_simulator/conversations", json=threads)).raise_for_status()
        for psid in people:
            body = signals_of(psid, datetime.now(UTC))["referral"]
            posted_at[psid] = to_millis(now())
            await post(http, everything, body)
            await asyncio.sleep(0.2)
        sent_at = await _sent_at(http, url, len(people))

    millis = [sent_at[psid] - posted_at[psid] for psid in people[_WARM_UP:]]
    cuts = quantiles(millis, n=100)
    note(
        "POST of a webhook → its first follow-up at Meta, idle machine, one at a time",
        f"median {cuts[49]:.0f} ms, p95 {cuts[94]:.0f} ms, slowest {max(millis):.0f} ms of {_COUNTED}",
    )
