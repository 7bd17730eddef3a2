"""Durable webhooks a second on one core, as ratios to what the same server and client do without Kafka."""

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import pytest
import uvloop

from runtime.ports import free_ports
from runtime.settings import Settings
from schemas.topics import WEBHOOKS
from tests.benchmarks.conftest import Note
from tests.benchmarks.http_load import Result, post_all, webhook_request
from tests.benchmarks.yardsticks import SECRET

pytestmark = pytest.mark.benchmark

COUNT = 8_000
CONNECTIONS = 128
ROUNDS = 5
_SERVER_CORE, _CLIENT_CORE = 0, 1
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Server:
    """A process on a core of its own, and its port."""

    name: str
    process: "subprocess.Popen[bytes]"
    port: int


@dataclass(frozen=True, slots=True)
class Measured:
    """What the client saw, and how many requests a second of the server's CPU time is worth."""

    seen: Result
    per_cpu_second: float


@pytest.mark.parametrize("kafka_topics", [8], indirect=True)
def test_durable_webhooks_per_second(kafka_topics: Settings, tmp_path: Path, note: Note) -> None:
    requests = [webhook_request(a_body(number), SECRET) for number in range(COUNT)]
    runs: dict[str, list[Measured]] = {"read": [], "hmac": [], "ingest": []}
    produced: list[float] = []
    with servers(kafka_topics, tmp_path) as running, on_core(_CLIENT_CORE):
        for _ in range(ROUNDS):
            for server in running:
                runs[server.name].append(measure(server, requests))
            produced.append(produce_rate(kafka_topics))

    rates = {name: median(run.per_cpu_second for run in measured) for name, measured in runs.items()}
    seen = [run.seen for run in runs["ingest"]]
    for name, text, rate in (
        ("a", "a Starlette route that reads the body", rates["read"]),
        ("b", "the same with HMAC", rates["hmac"]),
        ("c", "aiokafka alone, acks=all", median(produced)),
    ):
        note(f"Durable webhooks per CPU second, to ({name}) {text}", f"{rates['ingest'] / rate:.2f}")
    note(
        f"Durable webhooks, one process on one core, {CONNECTIONS} connections",
        f"{rates['ingest']:.0f} per CPU second; median {median(run.median for run in seen):.0f} ms, "
        f"p99 {median(run.p99 for run in seen):.0f} ms at {median(run.per_second for run in seen):.0f}/s",
    )


def a_body(number: int) -> bytes:
    """About 800 bytes, a fourth of one person's."""
    item = {
        "sender": {"id": str(5_000_000_000_000_000 + number // 4)},
        "recipient": {"id": "542998526103632"},
        "timestamp": 1_770_000_000_000 + number,
        "message": {"mid": f"m_{number:080}", "text": "an answer " * 50},
    }
    return json.dumps({"object": "page", "entry": [{"id": "542998526103632", "time": 1, "messaging": [item]}]}).encode()


def measure(server: Server, requests: list[bytes]) -> Measured:
    before = cpu_seconds(server.process.pid)
    seen = uvloop.run(post_all(server.port, requests, CONNECTIONS))
    return Measured(seen, len(requests) / (cpu_seconds(server.process.pid) - before))


def cpu_seconds(pid: int) -> float:
    """User and system time so far: on a machine that is shared, wall time measures the neighbours too."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def produce_rate(settings: Settings) -> float:
    arguments = ("produce", str(settings.broker), settings.topic(WEBHOOKS.name), str(COUNT))
    done = subprocess.run(pinned("tests.benchmarks.yardsticks", *arguments), capture_output=True, text=True, check=True)
    return float(done.stdout)


def pinned(module: str, *arguments: str) -> list[str]:
    """A command that runs a module on the servers' core."""
    start = f"import os; os.sched_setaffinity(0, {{{_SERVER_CORE}}})"
    run = f"import runpy; runpy.run_module({module!r}, None, '__main__', alter_sys=True)"
    return [sys.executable, "-c", f"{start}; {run}", *arguments]


@contextmanager
def on_core(core: int) -> Iterator[None]:
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    yield
    os.sched_setaffinity(0, before)


@contextmanager
def servers(settings: Settings, home: Path) -> Iterator[list[Server]]:
    """The two yardsticks and ingest, ready, on the same core; only one of them is busy at a time."""
    environ = {
        **os.environ,
        "LEADSTREAM_BROKER": str(settings.broker),
        "LEADSTREAM_TOPIC_PREFIX": settings.topic_prefix,
        "LEADSTREAM_APP_ID": "1",
        "LEADSTREAM_APP_SECRET": SECRET,
        "LEADSTREAM_VERIFY_TOKEN": "a token",
        "LEADSTREAM_STATE_DIR": str(home),
    }
    commands: dict[str, Callable[[str], list[str]]] = {
        "read": lambda port: pinned("tests.benchmarks.yardsticks", "read", port),
        "hmac": lambda port: pinned("tests.benchmarks.yardsticks", "hmac", port),
        "ingest": lambda port: pinned("cli", "ingest", "--port", port, "--admin-port", "0"),
    }
    running: list[Server] = []
    try:
        for name, command in commands.items():
            port = free_ports()
            with (home / f"{name}.log").open("wb") as log:
                process = subprocess.Popen(command(str(port)), env=environ, stderr=log, stdout=log)
            running.append(Server(name, process, port))
            until_it_answers(port)
        yield running
    finally:
        for server in running:
            server.process.terminate()
            server.process.wait(30)


def until_it_answers(port: int) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=2).close()
        except urllib.error.HTTPError:
            return
        except OSError:
            assert time.monotonic() < deadline, "a server does not answer"
            time.sleep(0.1)
        else:
            return
