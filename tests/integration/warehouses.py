"""Both warehouses under one name, with a way to read back what they hold."""

import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest
from psycopg import sql

from sinks.warehouse.delta.warehouse import DeltaWarehouse
from sinks.warehouse.postgres.warehouse import PostgresWarehouse
from sinks.warehouse.query import Answer, ask
from sinks.warehouse.sink import Warehouse
from sinks.warehouse.tables import tables_by_topic
from tests.certificates import Certificate
from tests.conftest import free_port
from tests.warehouse_rows import CLUSTER

TABLES = tables_by_topic(str)

_PLACES = [Path(place) for place in ("/usr/lib/postgresql", "/usr/local/pgsql", "/opt/homebrew/opt/postgresql")]


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


@dataclass(slots=True)
class PostgresServer:
    """A server of our own, with the URL of its first database."""

    url: str
    binaries: Path
    data: str
    options: str
    user: str | None
    runs: bool = False

    def start(self) -> None:
        self._control("-o", self.options, "-l", f"{self.data}/log", "start")
        self.runs = True

    def stop(self) -> None:
        """As a restart does: sessions are ended, and what was committed is kept."""
        if self.runs:
            self._control("-m", "fast", "stop")
        self.runs = False

    def _control(self, *arguments: str) -> None:
        _run(self.user, self.binaries / "pg_ctl", "-D", self.data, "-w", *arguments)


@contextmanager
def postgres_server() -> Iterator[str]:
    """The URL of a PostgreSQL server of our own; skips the test, saying why, where there is none to start."""
    with own_postgres() as server:
        yield server.url


@contextmanager
def own_postgres(
    settings: Mapping[str, str] = MappingProxyType({}),
    *,
    access: Sequence[str] = ("host all all all trust",),
    tls: Certificate | None = None,
) -> Iterator[PostgresServer]:
    """A server that a test may stop and start; skips the test, saying why, where there is none.

    `access` are the lines of pg_hba.conf; with `tls` the server has this certificate.
    """
    binaries = _binaries()
    if binaries is None:
        pytest.skip("no PostgreSQL server binaries (initdb, pg_ctl) on this machine")
    # PostgreSQL refuses to run as root.
    user = "nobody" if os.geteuid() == 0 else None
    with TemporaryDirectory(prefix="leadstream-postgres-") as directory:
        if user is not None:
            shutil.chown(directory, user)
        data, port = f"{directory}/data", free_port()
        given = {"listen_addresses": "127.0.0.1", "unix_socket_directories": "", **settings}
        if tls is not None:
            files = {"ssl_cert_file": tls.cert, "ssl_key_file": tls.key, "ssl_ca_file": tls.authority}
            given |= {"ssl": "on"} | {name: _given_to(user, file, Path(directory)) for name, file in files.items()}
        options = " ".join([f"-p {port}", *(f"-c {name}={value}" for name, value in given.items())])
        _run(user, binaries / "initdb", "-D", data, "-U", "leadstream", "-A", "trust", "--no-sync")
        Path(data, "pg_hba.conf").write_text("\n".join(access) + "\n")
        server = PostgresServer(f"postgresql://leadstream@127.0.0.1:{port}/postgres", binaries, data, options, user)
        server.start()
        try:
            yield server
        finally:
            server.stop()


def new_database(server: str, name: str, encoding: str = "UTF8") -> str:
    """The URL of an empty database."""
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(
            sql.SQL("create database {} encoding {} template template0 lc_collate 'C' lc_ctype 'C'").format(
                sql.Identifier(name), sql.Literal(encoding)
            )
        )
    return f"{server.rsplit('/', 1)[0]}/{name}"


@contextmanager
def pgbouncer(server: str, pool_mode: str = "transaction") -> Iterator[str]:
    """The URL of the same database through PgBouncer with two connections; skips the test where there is none."""
    binary = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if binary is None:
        pytest.skip("no PgBouncer on this machine (Debian's package pgbouncer)")
    user = "nobody" if os.geteuid() == 0 else None
    parts, port = urlsplit(server), free_port()
    with TemporaryDirectory(prefix="leadstream-pgbouncer-") as directory:
        Path(directory).chmod(0o755)
        (Path(directory) / "users.txt").write_text('"leadstream" ""\n')
        configuration = Path(directory) / "pgbouncer.ini"
        configuration.write_text(
            f"[databases]\n* = host={parts.hostname} port={parts.port}\n[pgbouncer]\n"
            f"listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n"
            f"auth_type = trust\nauth_file = {directory}/users.txt\n"
            f"pool_mode = {pool_mode}\ndefault_pool_size = 2\nquery_wait_timeout = 3\n"
        )
        with subprocess.Popen([binary, "-q", str(configuration)], user=user, cwd="/") as pooling:
            try:
                pooled = server.replace(f":{parts.port}/", f":{port}/")
                _wait_for(pooled)
                yield pooled
            finally:
                pooling.terminate()


def _binaries() -> Path | None:
    found = [path for place in _PLACES for path in sorted(place.glob("**/bin/initdb"), reverse=True)]
    if found:
        return found[0].parent
    initdb = shutil.which("initdb")
    return Path(initdb).parent if initdb and shutil.which("pg_ctl") else None


def _wait_for(url: str) -> None:
    for _ in range(100):
        try:
            psycopg.connect(url, connect_timeout=5).close()
        except psycopg.OperationalError:
            time.sleep(0.1)
        else:
            return
    raise AssertionError("PgBouncer did not start")


def _given_to(user: str | None, file: Path, folder: Path) -> str:
    """A copy that this user owns, and nobody else reads."""
    copied = shutil.copy(file, folder)
    Path(copied).chmod(0o600)
    if user is not None:
        shutil.chown(copied, user)
    return str(copied)


def _run(user: str | None, *arguments: str | Path) -> None:
    subprocess.run(list(map(str, arguments)), check=True, user=user, stdout=subprocess.DEVNULL, cwd="/")
