"""A campaign through all stages as processes, on a Kafka with TLS and users and on one without."""

import asyncio
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from datetime import timedelta
from importlib import resources
from pathlib import Path
from time import monotonic
from typing import Any

import httpx

from leads.records import Lead
from operations.demo.observer import Observer
from operations.local.processes import Processes
from operations.local.stack import STAGES, admin_url
from runtime import kafka
from runtime.clock import now
from runtime.cluster import Cluster
from runtime.ports import free_ports
from runtime.settings import Settings, read_settings
from schemas.codec import lead_codec
from schemas.topics import LEADS
from simulator.campaign import Campaign, plan_campaign
from simulator.people import PAGES
from simulator.poster import GraphControl, Poster, post_deliveries
from tests.secured_kafka import SecuredKafka

SECRET = "test-app-secret"
_EXAMPLES = resources.files("simulator")
_SPAN = timedelta(minutes=20)
_PATIENCE = 90.0
# The log of receipt is another one, and so are its times and offsets.
_OF_RECEIPT = frozenset({"first_seen_at", "updated_at", "origins"})
Environ = Mapping[str, str]
# Of each lead, the fields of every revision in order.
Revisions = dict[str, list[dict[str, Any]]]


def plan() -> Campaign:
    return plan_campaign(11, leads=25, start=now() - 2 * _SPAN, span=_SPAN)


def secured_leads(campaign: Campaign, kafka: SecuredKafka, home: Path, prefix: str) -> Revisions:
    """The leads of a run in which each stage has a user of its own, with the rights that `topics acls` prints."""
    kafka.allow(printed_acls(prefix))

    def as_its_own_user(stage: str) -> Environ:
        return kafka.settings(f"leadstream-{stage}")

    leads = _leads_of(campaign, as_its_own_user, kafka.internal, _environ(home, prefix))
    for log in home.rglob("*.log"):
        assert not any(secret in log.read_text() for secret in kafka.passwords.values()), log
    return leads


def plain_leads(campaign: Campaign, broker: str, home: Path, prefix: str) -> Revisions:
    """The leads of a run without TLS and users."""

    def as_anybody(_stage: str) -> Environ:
        return {"LEADSTREAM_BROKER": broker}

    return _leads_of(campaign, as_anybody, Cluster(broker), _environ(home, prefix))


def printed_acls(prefix: str) -> list[str]:
    """The commands of `leadstream topics acls`."""
    lines = _command({"LEADSTREAM_TOPIC_PREFIX": prefix}, "topics", "acls").splitlines()
    return [line for line in lines if not line.startswith("#")]


def _command(environ: Environ, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "cli", *arguments],
        env={**_without_ours(), **environ},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _without_ours() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("LEADSTREAM_")}


def _environ(home: Path, prefix: str) -> dict[str, str]:
    """What all stages of a run are told."""
    home.mkdir()
    # Long enough that all signals of a lead are there before it closes, however busy the machine is.
    pages = (_EXAMPLES / "demo_pages.yaml").read_text().replace("join_wait: 5s", "join_wait: 12s")
    (home / "pages.yaml").write_text(pages)
    return {
        "LEADSTREAM_TOPIC_PREFIX": prefix,
        "LEADSTREAM_PARTITIONS": "2",
        "LEADSTREAM_STATE_DIR": str(home),
        "LEADSTREAM_WAREHOUSE": str(home / "warehouse"),
        "LEADSTREAM_PAGES": str(home / "pages.yaml"),
        "LEADSTREAM_FOLLOWUPS": str(_EXAMPLES / "demo_followups.yaml"),
        "LEADSTREAM_GRAPH_URL": f"http://127.0.0.1:{free_ports()}",
        "LEADSTREAM_APP_ID": str(PAGES[0].target_app),
        "LEADSTREAM_APP_SECRET": SECRET,
        "LEADSTREAM_VERIFY_TOKEN": "test-verify-token",
        "LEADSTREAM_PORT": str(free_ports()),
        "LEADSTREAM_ADMIN_PORT": str(free_ports(1 + len(STAGES))),
    }


def _leads_of(campaign: Campaign, environ_of: Callable[[str], Environ], reader: Cluster, common: Environ) -> Revisions:
    """Every revision of each lead of a campaign that went through all stages; what is of receipt is left out."""
    settings = read_settings(common)
    webhook = f"http://127.0.0.1:{settings.port}/webhooks/messenger"
    _command({**common, **environ_of("topics-apply")}, "topics", "apply")
    with ExitStack() as stack:
        running = []

        def start(name: str, environ: Environ, *arguments: str, ready_url: str) -> None:
            told, logs = {**_without_ours(), **common, **environ}, settings.state_dir / "logs"
            running.append(stack.enter_context(Processes(logs, told, lambda _: None)))
            running[-1].start(name, *arguments, ready_url=ready_url)

        graph = ("--port", settings.graph_url.rpartition(":")[2], "--webhook", webhook, "--seed", "1")
        start("fake-meta", {}, "simulate", "graph", *graph, ready_url=f"{settings.graph_url}/_simulator/sends")
        start("ingest", environ_of("ingest"), "ingest", ready_url=admin_url(settings, "ingest", "/readyz"))
        for stage in STAGES:
            name = "-".join(stage)
            start(name, environ_of(name), *stage, ready_url=admin_url(settings, stage[-1], "/readyz"))
        for processes in running:
            processes.await_ready()
        return asyncio.run(_play(campaign, webhook, settings, reader))


async def _play(campaign: Campaign, webhook: str, settings: Settings, reader: Cluster) -> Revisions:
    observer = Observer()
    watching = asyncio.create_task(observer.watch(reader, settings))
    async with httpx.AsyncClient() as http:
        graph = GraphControl(http, settings.graph_url)
        await post_deliveries(campaign.deliveries, Poster(http, webhook, SECRET), graph=graph)
    deadline = monotonic() + _PATIENCE
    while len(observer.leads) < len(campaign.leads) or not observer.is_settled or not _has_transcripts(observer):
        assert monotonic() < deadline, (len(observer.leads), len(campaign.leads), observer.records)
        await asyncio.sleep(0.2)
    watching.cancel()
    await asyncio.wait([watching])
    assert any(outcome.status == "sent" for outcome in observer.outcomes.values())
    return await _revisions(reader, settings.topic(LEADS.name))


def _has_transcripts(observer: Observer) -> bool:
    """Whether the transcripts sink has found the answers of each complete lead whose webhooks told none."""
    return all(lead.answers for lead in observer.leads.values() if lead.outcome == "complete")


async def _revisions(reader: Cluster, topic: str) -> Revisions:
    found: defaultdict[str, list[Lead]] = defaultdict(list)
    codec = lead_codec()
    async with kafka.consumer(reader, topic, group=None, client_id="test") as consumer:
        ends = await consumer.end_offsets(consumer.assignment())
        while any([await consumer.position(partition) < end for partition, end in ends.items()]):
            for records in (await consumer.getmany(timeout_ms=500)).values():
                for record in records:
                    lead = codec.decode(record.value)
                    found[lead.lead_id].append(lead)
    return {
        lead_id: [
            {name: value for name, value in vars_of(lead).items() if name not in _OF_RECEIPT}
            for lead in sorted(revisions, key=lambda lead: lead.revision)
        ]
        for lead_id, revisions in found.items()
    }


def vars_of(lead: Lead) -> dict[str, Any]:
    return {name: getattr(lead, name) for name in lead.__struct_fields__}
