"""The bytes of a webhook in each topic, and its cost in each process from the POST to its lead."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime.local_kafka.node import KafkaNode
from schemas.topics import EVENTS, JOIN_STATE, LEADS, WEBHOOKS
from tests.benchmarks.conftest import Note
from tests.benchmarks.http_load import post_all, webhook_request
from tests.benchmarks.lane import cpu_seconds
from tests.benchmarks.load import SIGNALS, webhooks
from tests.e2e.pipeline import SECRET, Pipeline
from tests.integration.topics import records_of

pytestmark = [pytest.mark.anyio, pytest.mark.benchmark]

PEOPLE = 2_000
_REVISIONS = 3
_CONNECTIONS = 64
# The node that a run starts keeps its files beside the run's temporary ones.
_NODE = KafkaNode(Path(tempfile.gettempdir()).parent / "kafka")


async def test_what_a_webhook_takes(pipeline: Pipeline, note: Note) -> None:
    settings = pipeline.settings
    requests = [webhook_request(body, SECRET) for _, body in webhooks(PEOPLE)]
    count = PEOPLE * SIGNALS
    broker = _NODE.status()
    pids = {"ingest": _child("ingest"), "streams": _child("streams"), **({"Kafka": broker.pid} if broker else {})}
    before = {name: cpu_seconds(pid) for name, pid in pids.items()}

    await post_all(settings.port, requests, _CONNECTIONS)
    await pipeline.leads_until(lambda leads: len(leads) >= PEOPLE * _REVISIONS)

    for name, pid in pids.items():
        spent = (cpu_seconds(pid) - before[name]) / count
        note(f"from the POST to the lead, processor time of {name}", f"{spent * 1e6:,.0f} µs a webhook")
    for topic in (WEBHOOKS, EVENTS, LEADS, JOIN_STATE):
        name = settings.topic(topic.name)
        records = [record for record in await records_of(settings, name) if record.key is not None]
        size = sum(len(record.key) + len(record.value or b"") + _size(record.headers) for record in records)
        on_disk = sum(path.stat().st_size for path in _segments(name)) if broker else None
        note(
            f"{topic.name}, {count:,} webhooks of {PEOPLE:,} leads",
            f"{len(records) / count:.2f} records a webhook, {size / len(records):,.0f} bytes each"
            + (f"; {on_disk / count:,.0f} bytes on disk a webhook" if on_disk else ""),
        )


def _size(headers: tuple[tuple[str, bytes], ...]) -> int:
    return sum(len(name) + len(value) for name, value in headers)


def _segments(topic: str) -> Iterator[Path]:
    return _NODE.state_dir.rglob(f"{topic}-[0-9]*/*.log")


def _child(command: str) -> int:
    """The child of ours that runs this command of leadstream."""
    for process in Path("/proc").glob("[0-9]*"):
        if os.getpid() == int((process / "stat").read_text().rpartition(")")[2].split()[1]):
            words = (process / "cmdline").read_bytes().split(b"\0")
            if words[-2] == command.encode():
                return int(process.name)
    raise LookupError(command)
