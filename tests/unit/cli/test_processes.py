"""Children of `up` and `demo`: watched, started again, stopped."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from cli.processes import Processes


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def processes(tmp_path: Path, said: list[str]) -> Iterator[Processes]:
    with Processes(tmp_path, os.environ, said.append) as running:
        yield running


def wait_for(processes: Processes, said: list[str], word: str) -> None:
    deadline = time.monotonic() + 20
    while not any(word in line for line in said):
        assert time.monotonic() < deadline, said
        processes.restart_ended()


def test_child_that_ends_is_a_fault_with_the_end_of_its_log(processes: Processes) -> None:
    processes.start("broken", "no-such-command", ready_url="http://127.0.0.1:9/readyz")

    with pytest.raises(click.ClickException, match="No such command"):
        processes.await_ready()


def test_child_that_ends_is_started_again_with_growing_pauses(processes: Processes, said: list[str]) -> None:
    processes.start("broken", "no-such-command", ready_url="http://127.0.0.1:9/readyz")

    wait_for(processes, said, "again in 2 s")

    assert "broken ended with status 2" in said[0]
    assert "again in 1 s" in said[0]


def test_children_are_stopped_on_leaving(tmp_path: Path) -> None:
    with Processes(tmp_path, os.environ, lambda _: None) as processes:
        processes.start("graph", "simulate", "graph", "--port", "0", ready_url="http://127.0.0.1:9/")
        pid = processes._children[0].process.pid

    with pytest.raises(ProcessLookupError):
        os.kill(pid, signal.SIGCONT)
