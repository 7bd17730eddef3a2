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
from psycopg import sql

from sinks.delta import DeltaWarehouse
from sinks.postgres import PostgresWarehouse
from sinks.query import Answer, ask
from sinks.tables import tables_by_topic
from sinks.warehouse import Warehouse
from tests.conftest import free_port
from tests.warehouse_rows import CLUSTER

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

    def answer(self, query: str) -> Answer:
        return ask(self.url, query)

    def ask(self, query: str) -> list[tuple[Any, ...]]:
        return list(self.answer(query).rows)


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
