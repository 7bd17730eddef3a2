"""The examples do what they say, on a real Kafka and a real warehouse."""

import asyncio
import re
import shlex
import shutil
import subprocess
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from docs.generate import DOCS
from examples.consume_confluent import leads_since
from examples.consume_leads import newest_leads
from examples.query_delta import leads_by_ad
from examples.query_polars import answer_counts
from messenger.events import Ad, Answer
from runtime.admin import serve
from runtime.clock import now
from runtime.cluster import cluster_of
from runtime.settings import Settings
from runtime.topic_admin import existing_topics, record_counts
from schemas.codec import lead_codec
from tests.builders import a_lead
from tests.certificates import Authority
from tests.conftest import free_port
from tests.integration.registry_front import PASSWORD, USER, front
from tests.integration.topics import environ_of, put
from tests.integration.warehouses import Target
from tests.unit.ingest.fakes import registry_app
from tests.warehouse_rows import lead_row, leads

SUMMER = Ad("120", "Summer", None, None)
MENLO = Answer("City?", "Menlo Park")


@pytest.fixture
def warehouse(tmp_path: Path) -> Path:
    """Two leads, one of them in two revisions."""
    writer = Target(str(tmp_path)).open()
    writer.open([leads(0)])
    rows = [
        lead_row(0, 0, "l1", ad=SUMMER, outcome="incomplete", answers=(), answers_source="none"),
        lead_row(0, 1, "l1", revision=2, ad=SUMMER, answers=(MENLO, Answer("When?", "9:30"))),
        lead_row(0, 2, "l2", answers=(MENLO,)),
    ]
    writer.write({"leads": rows}, {leads(0): 3})
    return tmp_path


def test_duckdb_reads_the_delta_tables(warehouse: Path) -> None:
    assert leads_by_ad(warehouse) == [("Summer", "complete", 1), (None, "complete", 1)]


def test_polars_reads_the_delta_tables(warehouse: Path) -> None:
    assert answer_counts(warehouse) == [("City?", "Menlo Park", 2), ("When?", "9:30", 1)]


@pytest.mark.anyio
@pytest.mark.integration
async def test_the_client_reads_the_newest_revisions(kafka_topics: Settings) -> None:
    topic = kafka_topics.topic("leads")
    await put(
        kafka_topics, topic, *(_record("l1", revision) for revision in (1, 2)), _record("l2", 1), _record("l1", 1)
    )
    await put(kafka_topics, topic, _record("l3", 1), (b"l3", None))

    found = await asyncio.to_thread(newest_leads, environ_of(kafka_topics))

    assert sorted((lead.lead_id, lead.revision) for lead in found) == [("l1", 2), ("l2", 1)]


@pytest.mark.anyio
@pytest.mark.integration
async def test_confluents_client_reads_from_a_moment_on_by_the_built_in_registry(kafka_topics: Settings) -> None:
    topic, port = kafka_topics.topic("leads"), free_port()
    await put(kafka_topics, topic, _record("l1", 1), _record("l1", 2), (b"l0", None))
    app = registry_app(kafka_topics.topic_prefix)

    def read(since: Any) -> list[tuple[str, int]]:
        found = leads_since(str(kafka_topics.broker), f"http://127.0.0.1:{port}", since, topic)
        return [(lead["lead_id"], lead["revision"]) for lead in found]

    async with serve(app, "127.0.0.1", port):
        # Confluent's client does not ask again where a partition of a new topic has no leader yet; this does.
        await record_counts(
            cluster_of(kafka_topics), (await existing_topics(cluster_of(kafka_topics), [topic])).values()
        )
        assert await asyncio.to_thread(read, now() - timedelta(minutes=5)) == [("l1", 1), ("l1", 2)]
        assert await asyncio.to_thread(read, now() + timedelta(minutes=5)) == []


@pytest.mark.anyio
@pytest.mark.integration
async def test_confluents_client_reads_by_a_registry_with_a_password_and_a_ca(
    kafka_topics: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    topic, port = kafka_topics.topic("leads"), free_port()
    await put(kafka_topics, topic, _record("l1", 1))
    app = registry_app(kafka_topics.topic_prefix)
    authority = Authority(tmp_path / "ca")
    monkeypatch.setenv("LEADSTREAM_SCHEMA_REGISTRY_USERNAME", USER)
    monkeypatch.setenv("LEADSTREAM_SCHEMA_REGISTRY_PASSWORD", PASSWORD)
    monkeypatch.setenv("LEADSTREAM_SCHEMA_REGISTRY_CA_FILE", str(authority.file))

    def read(url: str) -> list[str]:
        since = now() - timedelta(minutes=5)
        return [lead["lead_id"] for lead in leads_since(str(kafka_topics.broker), url, since, topic)]

    async with serve(app, "127.0.0.1", port):
        with front(f"http://127.0.0.1:{port}", authority.issue("localhost", hosts=("localhost",))) as url:
            assert await asyncio.to_thread(read, url) == ["l1"]


def _require_kcat(*, avro: bool) -> None:
    if shutil.which("kcat") is None:
        pytest.skip("kcat is not on PATH")
    features = subprocess.run(["kcat", "-V"], capture_output=True, text=True, check=True).stdout
    if avro and "Avro" not in features:
        pytest.skip("this kcat was built without Avro")


def _one_liners() -> list[str]:
    return re.findall(r"^kcat .+$", (DOCS / "topics.md").read_text(encoding="utf-8"), re.MULTILINE)


def test_the_docs_have_one_liners() -> None:
    assert len(_one_liners()) == 2


@pytest.mark.anyio
@pytest.mark.integration
@pytest.mark.parametrize("line", _one_liners(), ids=["places", "values"])
async def test_kcat_reads_as_the_docs_say(kafka_topics: Settings, line: str) -> None:
    _require_kcat(avro="avro" in line)
    topic, port = kafka_topics.topic("leads"), free_port()
    await put(kafka_topics, topic, _record("l1", 1), _record("l2", 1))
    app = registry_app(kafka_topics.topic_prefix)
    here = {"127.0.0.1:9092": str(kafka_topics.broker), "http://127.0.0.1:8001": f"http://127.0.0.1:{port}"}
    words = [{**here, "leads": topic}.get(word, word) for word in shlex.split(line)]

    async with serve(app, "127.0.0.1", port):
        done = await asyncio.to_thread(subprocess.run, words, capture_output=True, text=True, check=True, timeout=60)

    assert sorted(re.findall(r"\bl\d\b", done.stdout)) == ["l1", "l2"]


def _record(name: str, revision: int) -> tuple[bytes, bytes]:
    return name.encode(), lead_codec().encode(a_lead(lead_id=name, revision=revision))
