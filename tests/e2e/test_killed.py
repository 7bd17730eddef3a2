"""Commands that are killed leave no process behind, on Linux."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from runtime.ports import free_ports
from tests.run_end import command_line, marked_processes

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(sys.platform != "linux", reason="the parent-death signal is Linux's"),
]


def test_a_killed_demo_takes_its_kafka_and_its_stages_along(tmp_path: Path) -> None:
    # As soon as all are there, and the last are not yet ready.
    lines = processes_before_and_after_a_kill(
        tmp_path, "demo", settings={}, until=lambda _: _leadstreams(command_lines(tmp_path)) == 1 + 6
    )

    assert sum("kafka.Kafka" in line for line in lines) == 1
    assert _leadstreams(lines) == 1 + 6, lines


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

    lines = processes_before_and_after_a_kill(
        tmp_path, stage, "--workers", "2", settings=settings, until=lambda _: len(marked_processes(_mark(tmp_path))) > 2
    )

    assert len(lines) >= 3, lines


def processes_before_and_after_a_kill(
    home: Path, *command: str, settings: dict[str, str], until: Callable[[str], bool]
) -> list[str]:
    """The command lines of a command and all below it when it is killed; they all end."""
    settings = {**settings, "STATE_DIR": str(home / "state")}
    name, value = _mark(home).split("=")
    environ = {**os.environ, **{f"LEADSTREAM_{key}": text for key, text in settings.items()}, name: value}
    log = home / "out.log"
    with (
        log.open("wb") as out,
        subprocess.Popen([sys.executable, "-m", "cli", *command], env=environ, stdout=out, stderr=out) as running,
    ):
        wait(lambda: running.poll() is not None or until(log.read_text()))
        assert running.poll() is None, log.read_text()
        before = command_lines(home)
        running.kill()
    wait(lambda: not marked_processes(_mark(home)))
    return before


def command_lines(home: Path) -> list[str]:
    return [command_line(pid) for pid in marked_processes(_mark(home))]


def _leadstreams(lines: list[str]) -> int:
    return sum(" -m cli " in line for line in lines)


def _mark(home: Path) -> str:
    return f"KILLED_RUN={home.name}"


def wait(until: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not until():
        assert time.monotonic() < deadline
        time.sleep(0.1)
