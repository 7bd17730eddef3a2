"""Both warehouses under one name, with a way to read back what they hold."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psycopg
import pytest
from aiokafka import TopicPartition
from psycopg import sql

from runtime.dead_letter import dead_letter as as_dead_letter
from schemas.codec import event_codec, lead_codec, outcome_codec
from sinks.delta import DeltaWarehouse
from sinks.postgres import PostgresWarehouse
from sinks.query import ask
from sinks.rows import dead_letter_row, user_message
from sinks.tables import tables_by_topic
from sinks.warehouse import Warehouse
from tests.builders import a_lead, a_message
from tests.conftest import free_port
from tests.unit.sinks.outcomes import an_outcome
from tests.unit.sinks.records import a_record

CLUSTER = "cluster-one"
TABLES = tables_by_topic(str)

_PLACES = [Path(one) for one in ("/usr/lib/postgresql", "/usr/local/pgsql", "/opt/homebrew/opt/postgresql")]


@dataclass(frozen=True, slots=True)
class Target:
    """Where a warehouse lies; `open` gives a new writer, as a new process would have."""

    url: str
    writers: list[Warehouse] = field(default_factory=list)

    def open(self, cluster_id: str = CLUSTER) -> Warehouse:
        server = self.url.startswith("postgresql://")
        kind = PostgresWarehouse if server else DeltaWarehouse
        self.writers.append(kind(self.url, TABLES, cluster_id=cluster_id))
        return self.writers[-1]

    def ask(self, query: str) -> list[tuple[Any, ...]]:
        return list(ask(self.url, query).rows)


def lead_row(partition: int, offset: int, name: str = "l1", revision: int = 1, **given: Any) -> dict[str, Any]:
    lead = a_lead(lead_id=name, revision=revision, **given)
    return {**lead_codec().decode_plain(lead_codec().encode(lead)), **_where("leads", partition, offset)}


def outcome_row(partition: int, offset: int, name: str, status: str, **given: Any) -> dict[str, Any]:
    outcome = outcome_codec().encode(an_outcome(name, status, **given))
    return {**outcome_codec().decode_plain(outcome), **_where("followup-outcomes", partition, offset)}


def message_row(offset: int, **given: Any) -> dict[str, Any]:
    """That a person wrote, as the sink keeps it of a platform event."""
    row = user_message(event_codec(), event_codec().encode(a_message(**given)))
    assert row is not None
    return {**row, **_where("messenger-events", 0, offset)}


def dead_letter(offset: int, value: bytes, *, reason: str = "not_json") -> dict[str, Any]:
    """What the splitter refused, as the sink keeps it."""
    refused = a_record("messenger-webhooks", 3, 4711, b"page:psid", value, ())
    key, value_kept, headers = as_dead_letter(refused, stage="split", reason=reason, fault="Unreadable")
    row = dead_letter_row(a_record("messenger-webhooks-dlq", 0, offset, key, value_kept, tuple(headers)))
    return {**row, **_where("messenger-webhooks-dlq", 0, offset)}


def _where(topic: str, partition: int, offset: int) -> dict[str, Any]:
    return {"_topic": topic, "_partition": partition, "_offset": offset}


def leads(partition: int) -> TopicPartition:
    return TopicPartition("leads", partition)


def messages(partition: int) -> TopicPartition:
    return TopicPartition("messenger-events", partition)


def refused(partition: int) -> TopicPartition:
    return TopicPartition("messenger-webhooks-dlq", partition)


def outcomes(partition: int) -> TopicPartition:
    return TopicPartition("followup-outcomes", partition)


@contextmanager
def postgres_server() -> Iterator[str]:
    """The URL of a PostgreSQL server of our own; skips the test, saying why, where there is none to start."""
    binaries = _binaries()
    if binaries is None:
        pytest.skip("no PostgreSQL server binaries (initdb, pg_ctl) on this machine")
    # PostgreSQL refuses to run as root.
    user = "nobody" if os.geteuid() == 0 else None
    with TemporaryDirectory(prefix="leadstream-postgres-") as directory:
        if user is not None:
            shutil.chown(directory, user)
        data, port = f"{directory}/data", free_port()
        options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories="
        _run(user, binaries / "initdb", "-D", data, "-U", "leadstream", "-A", "trust", "--no-sync")
        _run(user, binaries / "pg_ctl", "-D", data, "-w", "-o", options, "-l", f"{directory}/log", "start")
        try:
            yield f"postgresql://leadstream@127.0.0.1:{port}/postgres"
        finally:
            _run(user, binaries / "pg_ctl", "-D", data, "-w", "-m", "immediate", "stop")


def new_database(server: str, name: str) -> str:
    """The URL of an empty database."""
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(sql.SQL("create database {}").format(sql.Identifier(name)))
    return f"{server.rsplit('/', 1)[0]}/{name}"


def _binaries() -> Path | None:
    found = [one for place in _PLACES for one in sorted(place.glob("**/bin/initdb"), reverse=True)]
    if found:
        return found[0].parent
    initdb = shutil.which("initdb")
    return Path(initdb).parent if initdb and shutil.which("pg_ctl") else None


def _run(user: str | None, *arguments: str | Path) -> None:
    subprocess.run(list(map(str, arguments)), check=True, user=user, stdout=subprocess.DEVNULL, cwd="/")
