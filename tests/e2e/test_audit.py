"""`leadstream audit` of a demo: everything is accounted for; a record, a row or a send that is taken away is named."""

import asyncio
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from aiokafka import ConsumerRecord
from deltalake import DeltaTable

from operations.deployment import expected_topics
from runtime import kafka
from runtime.cluster import cluster_of
from runtime.settings import Settings, read_settings
from runtime.topic_admin import apply_topics, delete_topics, topic_names
from schemas.codec import lead_codec, outcome_codec
from schemas.topics import LEADS, OUTCOMES
from sinks.warehouse.tables import PROVENANCE
from tests.integration.topics import connected, records_of

pytestmark = [pytest.mark.integration, pytest.mark.slow]

LEADSTREAM = (sys.executable, "-m", "cli")


@pytest.fixture(scope="module")
def environ(kafka_broker: str, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """The variables with which a command means a demo that is over."""
    place = tmp_path_factory.mktemp("audited")
    kept = {name: value for name, value in os.environ.items() if not name.startswith("LEADSTREAM_")}
    demo = {"LEADSTREAM_BROKER": kafka_broker, "LEADSTREAM_STATE_DIR": str(place)}
    done = subprocess.run(
        [*LEADSTREAM, "demo", "--leads", "25"],
        env=kept | demo, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    lines = (place / "demo" / "environment").read_text().splitlines()
    words = (shlex.split(line.removeprefix("export "))[0].partition("=") for line in lines)
    return kept | {name: value for name, _, value in words}


@pytest.fixture
def settings(environ: Mapping[str, str]) -> Settings:
    return read_settings(environ)


def audit(environ: Mapping[str, str], *options: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [*LEADSTREAM, "audit", *options], env=environ, capture_output=True, text=True, timeout=300, check=False
    )


def findings(environ: Mapping[str, str]) -> set[tuple[str, str]]:
    """The codes and places of all findings."""
    done = audit(environ, "--json")
    assert done.returncode == 1, done.stdout + done.stderr
    return {(finding["code"], finding["place"]) for finding in json.loads(done.stdout)["findings"]}


def test_a_demo_is_accounted_for(environ: Mapping[str, str]) -> None:
    done = audit(environ)
    told = json.loads(audit(environ, "--json").stdout)

    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("everything is accounted for\n")
    assert told["findings"] == []
    assert {name: count for name, count in told["judged"].items() if not count} == {"receipts": 0}
    assert told["judged"]["leads"] == 28
    # A demo may end before its send sink has committed the last commands.
    assert {name for name, count in told["beyond"].items() if count} <= {"commands not settled"}


def test_a_window_before_everything_cannot_be_judged(environ: Mapping[str, str]) -> None:
    done = audit(environ, "--from", "2020-01-01", "--to", "2020-01-02")

    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "Error: `leadstream streams` has joined nothing of that time: does it run?\n"


def test_a_record_a_row_and_a_send_that_are_taken_away_are_named(
    environ: Mapping[str, str], settings: Settings
) -> None:
    row = _delete_a_row(settings)
    tombstone, command_id = asyncio.run(_bury_a_send(settings))
    lost = asyncio.run(_make_anew_without_the_last(settings, LEADS.name))

    lead = lead_codec().decode(lost.value)
    # Once its time is over, the flow of the lead shows the loss too.
    assert {finding for finding in findings(environ) if finding[0] != "flow_unlike_its_lead"} == {
        ("lost_row", row),
        ("tombstone_without_erasure", f"{tombstone} {command_id}"),
        ("leads_missing", f"{lead.lead_id} revision {lead.revision}"),
        ("row_without_record", f"lead_events {lost.topic}/{lost.partition}/{lost.offset}"),
    }


def _delete_a_row(settings: Settings) -> str:
    """Delete the row of an outcome from the warehouse; the place of its record."""
    table = DeltaTable(str(Path(settings.warehouse) / "followup_outcome_events"))
    [row] = table.to_pyarrow_table().slice(3, 1).to_pylist()
    topic, partition, offset = (row[name] for name in PROVENANCE)
    table.delete(f"_topic = '{topic}' and _partition = {partition} and _offset = {offset}")
    return f"{topic}/{partition}/{offset}"


async def _bury_a_send(settings: Settings) -> tuple[str, str]:
    """Write a tombstone for the outcome of a text that was sent; its place and the command."""
    records = await records_of(settings, settings.topic(OUTCOMES.name))
    sent = next(record for record in records if record.value and outcome_codec().decode(record.value).status == "read")
    async with connected(kafka.producer(cluster_of(settings), client_id="test")) as producer:
        ack = await producer.send_and_wait(sent.topic, None, key=sent.key, partition=sent.partition)
    return f"{ack.topic}/{ack.partition}/{ack.offset}", sent.key.decode()


async def _make_anew_without_the_last(settings: Settings, name: str) -> ConsumerRecord:
    """Copy a topic without the last record of a partition, and let the copy take its place; the record that is lost."""
    topic, broker = settings.topic(name), cluster_of(settings)
    records = await records_of(settings, topic)
    lost = max(records, key=lambda record: (record.partition, record.offset))
    await delete_topics(broker, [topic])
    while topic in await topic_names(broker):  # noqa: ASYNC110 - Kafka deletes it a moment later
        await asyncio.sleep(0.2)
    await apply_topics(broker, [expected for expected in expected_topics(settings) if expected.name == topic])
    async with connected(kafka.producer(broker, client_id="test")) as producer:
        for record in records:
            if record is not lost:
                await producer.send_and_wait(
                    topic, record.value, key=record.key, partition=record.partition, timestamp_ms=record.timestamp
                )
    return lost
