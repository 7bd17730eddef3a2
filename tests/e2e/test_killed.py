"""Commands that are killed leave no process behind, on Linux."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from operations.local.stack import HAND_OFFS, STAGES
from runtime.ports import free_ports
from tests.run_end import command_line, marked_processes

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(sys.platform != "linux", reason="the parent-death signal is Linux's"),
]


def test_a_killed_demo_takes_its_kafka_and_its_stages_along(tmp_path: Path) -> None:
    everything = ["kafka.Kafka", " simulate graph ", " ingest", *(f" {' '.join(stage)}" for stage in STAGES)]
    everything += [f" sink {name}" for name in HAND_OFFS]

    # As soon as all are there, and the last are not yet ready.
    kill_and_await_the_end(
        tmp_path,
        "demo",
        settings={},
        after=lambda lines: all(any(name in line for line in lines) for name in everything),
    )


@pytest.mark.parametrize("stage", ["ingest", "streams"])
def test_a_killed_supervisor_takes_its_workers_along(stage: str, kafka_broker: str, tmp_path: Path) -> None:
    settings = {
        "BROKER": kafka_broker,
        "TOPIC_PREFIX": f"killed-{stage}-{os.getpid()}-",
        "APP_ID": "1",
        "APP_SECRET": "test-app-secret",
        "VERIFY_TOKEN": "test-verify-token",
        "PORT": str(free_ports()),
        "ADMIN_PORT": str(free_ports(3)),
    }

    kill_and_await_the_end(tmp_path, stage, "--workers", "2", settings=settings, after=lambda lines: len(lines) > 2)


def kill_and_await_the_end(
    home: Path, *command: str, settings: dict[str, str], after: Callable[[list[str]], bool]
) -> None:
    """Kill a command once the command lines of it and of all below it are as wanted; fails unless all of them end."""
    settings = {**settings, "STATE_DIR": str(home / "state")}
    name, value = _mark(home).split("=")
    environ = {**os.environ, **{f"LEADSTREAM_{key}": text for key, text in settings.items()}, name: value}
    log = home / "out.log"
    with (
        log.open("wb") as out,
        subprocess.Popen([sys.executable, "-m", "cli", *command], env=environ, stdout=out, stderr=out) as running,
    ):
        wait(lambda: running.poll() is not None or after(list(map(command_line, marked_processes(_mark(home))))))
        assert running.poll() is None, log.read_text()
        running.kill()
    wait(lambda: not marked_processes(_mark(home)))


def _mark(home: Path) -> str:
    return f"KILLED_RUN={home.name}"


def wait(until: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not until():
        assert time.monotonic() < deadline
        time.sleep(0.1)
