"""Children of `up` and `demo`: watched, started again, stopped."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from operations.local.processes import Processes
from operations.local.supervision import Watch
from operations.reporting import OperationError

pytestmark = pytest.mark.slow


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
        processes.tend()


def test_child_that_ends_is_a_fault_with_the_end_of_its_log(processes: Processes) -> None:
    processes.start("broken", "no-such-command", ready_url="http://127.0.0.1:9/readyz")

    with pytest.raises(OperationError, match="No such command"):
        processes.await_ready()


def test_child_that_ends_is_started_again_with_growing_pauses(processes: Processes, said: list[str]) -> None:
    processes.start("broken", "no-such-command", ready_url="http://127.0.0.1:9/readyz")

    wait_for(processes, said, "again in 2 s")

    assert "broken ended with status 2" in said[0]
    assert "again in 1 s" in said[0]


@contextmanager
def readiness(*answers: tuple[int, bytes]) -> Iterator[str]:
    """A URL that gives these answers in turn, and the last one from then on."""
    left = list(answers)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = left.pop(0) if len(left) > 1 else left[0]
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/readyz"
        server.shutdown()


def test_a_child_that_says_something_new_is_waited_for(processes: Processes, said: list[str]) -> None:
    processes.patience = 0.25
    reading = [(503, b"reads the ledger: %d of 12" % number) for number in range(12)]
    with readiness(*reading, (200, b"")) as url:
        processes.start("graph", "simulate", "graph", "--port", "0", ready_url=url)

        processes.await_ready()

    assert said == ["graph is ready"]


def test_a_child_that_says_nothing_new_is_given_up(processes: Processes) -> None:
    processes.patience = 0.25
    with readiness((503, b"waits for partitions")) as url:
        processes.start("graph", "simulate", "graph", "--port", "0", ready_url=url)

        with pytest.raises(OperationError, match=r"said nothing new for 0\.2 s"):
            processes.await_ready()


def test_children_are_stopped_on_leaving(tmp_path: Path) -> None:
    with Processes(tmp_path, os.environ, lambda _: None) as processes:
        processes.start("graph", "simulate", "graph", "--port", "0", ready_url="http://127.0.0.1:9/")
        pid = processes._children[0].process.pid

    with pytest.raises(ProcessLookupError):
        os.kill(pid, signal.SIGCONT)


STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); signal.pause()"


def deaf_child(processes: Processes, url: str = "http://127.0.0.1:9/readyz") -> int:
    """A child that takes no SIGTERM."""
    processes.start("deaf", "simulate", "graph", "--port", "0", ready_url=url)
    child = processes._children[0]
    child.process.kill()
    child.process.wait()
    child.process = subprocess.Popen([sys.executable, "-c", STUBBORN], stdout=subprocess.PIPE, start_new_session=True)
    assert child.process.stdout is not None
    with child.process.stdout as out:
        out.readline()
    return child.process.pid


def test_once_hurried_children_are_killed_at_once(processes: Processes, said: list[str]) -> None:
    pid = deaf_child(processes)
    processes.interrupts.hurried = True

    processes.stop()

    assert said == ["deaf is killed"]
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_what_stops_children_takes_no_signal_for_the_first(processes: Processes) -> None:
    processes.stop()

    assert processes.interrupts.stopping


@pytest.mark.parametrize("health", [(503, b"crashed"), None])
def test_a_child_without_health_is_ended_and_started_again(
    processes: Processes, said: list[str], health: tuple[int, bytes] | None
) -> None:
    processes.new_watch = partial(Watch, look_every=0.0, hung_after=3, never_started_after=3)
    processes.stop_within = 0.2
    with readiness(health or (200, b"")) as url:
        pid = deaf_child(processes, url if health else "http://127.0.0.1:9/readyz")

        wait_for(processes, said, "deaf ended with status -9")

    assert said[0].startswith("deaf hangs, ")
    assert said[1].endswith("again in 1 s")
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


@pytest.mark.parametrize(
    "answer",
    [b"HTTP/1.1 503 x\r\nContent-Length: 90\r\n\r\n{", b"no HTTP\r\n\r\n", b""],
    ids=["torn", "garbage", "empty"],
)
def test_a_child_that_ends_in_the_middle_of_its_answer_ends_nothing_else(
    processes: Processes, said: list[str], answer: bytes
) -> None:
    processes.new_watch = partial(Watch, look_every=0.0, hung_after=3, never_started_after=3)
    processes.stop_within = 0.2
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=answer_each, args=(listener, answer), daemon=True).start()
        deaf_child(processes, f"http://127.0.0.1:{listener.getsockname()[1]}/readyz")

        wait_for(processes, said, "deaf ended with status -9")


def answer_each(listener: socket.socket, answer: bytes) -> None:
    """Give every connection these bytes and its end, until the listener is closed."""
    with suppress(OSError):
        while True:
            connection, _ = listener.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(answer)


def test_a_child_that_cannot_be_started_is_tried_again(processes: Processes, said: list[str], tmp_path: Path) -> None:
    processes.start("broken", "no-such-command", ready_url="http://127.0.0.1:9/readyz")
    log = processes._children[0].log
    processes._children[0].process.wait()
    processes.tend()
    log.rename(tmp_path / "away")
    log.mkdir()

    wait_for(processes, said, "broken cannot be started: Is a directory; again in 2 s")

    assert processes.restarts == {"broken": 0}
