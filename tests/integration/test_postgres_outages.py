"""The warehouse sink as a process, while its PostgreSQL is not there yet, restarts, and is there again."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from runtime.settings import Settings
from tests.conftest import free_port
from tests.integration.sink_runs import Cluster
from tests.integration.warehouses import own_postgres, pgbouncer

pytestmark = [pytest.mark.anyio, pytest.mark.integration]

_PATIENCE = 60.0


class Sink:
    """`leadstream sink warehouse`."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, log: Path) -> None:
        self.process, self._port, self.log = process, port, log

    def until_ready(self, *, ready: bool, seen: str = "") -> None:
        """Wait until `/readyz` says so, with this in the words of the sink."""

        def is_so() -> bool:
            assert self.process.poll() is None, self.log.read_text()
            try:
                answer = httpx.get(f"http://127.0.0.1:{self._port}/readyz", trust_env=False)
            except httpx.TransportError:
                return False
            part = answer.json()["parts"].get("warehouse", {"seen": ""})
            return answer.is_success is ready and seen in part["seen"]

        _eventually(is_so)


def _eventually(is_so: Callable[[], bool]) -> None:
    until = time.monotonic() + _PATIENCE
    while not is_so():
        assert time.monotonic() < until
        time.sleep(0.1)


@contextmanager
def _sink(cluster: Cluster, folder: Path) -> Iterator[Sink]:
    port, log = free_port(), folder / "sink.log"
    environment = {
        **os.environ,
        "LEADSTREAM_BROKER": str(cluster.settings.broker),
        "LEADSTREAM_TOPIC_PREFIX": cluster.settings.topic_prefix,
        "LEADSTREAM_PARTITIONS": str(cluster.settings.partitions),
        "LEADSTREAM_WAREHOUSE": cluster.url,
        "LEADSTREAM_STATE_DIR": str(folder),
    }
    command = [sys.executable, "-m", "cli", "sink", "warehouse", "--admin-port", str(port)]
    with log.open("wb") as out, subprocess.Popen(command, env=environment, stdout=out, stderr=out) as process:
        try:
            yield Sink(process, port, log)
        finally:
            process.kill()


def _rows(url: str) -> tuple[Any, ...]:
    with psycopg.connect(url) as connection:
        [row] = connection.execute(
            "select count(*), count(distinct (_partition, _offset)), max(revision) from lead_events"
        ).fetchall()
    return tuple(row)


async def test_a_sink_waits_for_its_server_and_writes_each_record_once(kafka_topics: Settings, tmp_path: Path) -> None:
    with own_postgres() as server:
        cluster = Cluster(kafka_topics, server.url)
        server.stop()
        await cluster.put_leads(range(1, 3))

        with _sink(cluster, tmp_path) as sink:
            sink.until_ready(ready=False, seen="PostgreSQL does not answer: connection to server at")
            server.start()
            sink.until_ready(ready=True)
            _eventually(lambda: _rows(server.url) == (20, 20, 2))

            server.stop()
            await cluster.put_leads(range(3, 5))
            sink.until_ready(ready=False, seen="PostgreSQL")
            server.start()
            sink.until_ready(ready=True)
            _eventually(lambda: _rows(server.url) == (40, 40, 4))

            sink.process.send_signal(signal.SIGTERM)
            assert sink.process.wait(_PATIENCE) == 0

        log = sink.log.read_text()
        assert "sink.waits" in log
        assert "Traceback" not in log


async def test_a_sink_stops_while_its_server_is_away(kafka_topics: Settings, tmp_path: Path) -> None:
    with _sink(Cluster(kafka_topics, f"postgresql://nobody:planted@127.0.0.1:{free_port()}/leads"), tmp_path) as sink:
        sink.until_ready(ready=False, seen="Connection refused")
        sink.process.send_signal(signal.SIGTERM)

        assert sink.process.wait(_PATIENCE) == 0

    assert "planted" not in sink.log.read_text()


async def test_a_sink_ends_where_no_later_try_helps(kafka_topics: Settings, tmp_path: Path) -> None:
    with own_postgres() as server:
        cluster = Cluster(kafka_topics, server.url.replace("/postgres", "/nowhere"))
        with _sink(cluster, tmp_path) as sink:
            assert sink.process.wait(_PATIENCE) == 1

    [line] = sink.log.read_text().splitlines()
    assert 'database "nowhere" does not exist; create it, or change its name in LEADSTREAM_WAREHOUSE' in line


async def test_a_sink_behind_pgbouncer_outlives_a_restart_of_the_server(kafka_topics: Settings, tmp_path: Path) -> None:
    with own_postgres() as server, pgbouncer(server.url) as pooled:
        cluster = Cluster(kafka_topics, pooled)
        await cluster.put_leads(range(1, 3))

        with _sink(cluster, tmp_path) as sink:
            _eventually(lambda: _has_table(server.url) and _rows(server.url) == (20, 20, 2))
            server.stop()
            await cluster.put_leads(range(3, 5))
            sink.until_ready(ready=False, seen="PostgreSQL")
            server.start()
            _eventually(lambda: _rows(server.url) == (40, 40, 4))
            sink.until_ready(ready=True)


def _has_table(url: str) -> bool:
    with psycopg.connect(url) as connection:
        return connection.execute("select to_regclass('lead_events')").fetchone() != (None,)
