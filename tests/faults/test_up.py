"""`leadstream up` on real processes: signals, a closed terminal, a second one, and what ends, hangs or is full."""

import asyncio
import contextlib
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import termios
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from aiokafka.errors import KafkaConnectionError

from runtime.ports import free_ports
from tests.faults.front_door import SECRET, Meta, compare
from tests.run_end import command_line, marked_processes

pytestmark = [
    pytest.mark.faults,
    pytest.mark.skipif(sys.platform != "linux", reason="/proc and the parent-death signal are Linux's"),
]

_STAGES = ("ingest", "streams", "sink send", "sink warehouse", "sink transcripts")
_ALL = len(("up", "Kafka", "doctor", "console")) + len(_STAGES)


class Up:
    """A `leadstream up` with a Kafka of its own, on free ports; every process of it bears a mark."""

    def __init__(self, home: Path, **settings: str) -> None:
        self.home, self.log = home, home.with_name(f"{home.name}.log")
        self.port, self.admin_port, self.kafka_port = free_ports(), free_ports(7), free_ports()
        self._mark = f"UP_RUN={home.parent.name}-{home.name}"
        name, value = self._mark.split("=")
        self.environ = {
            **os.environ,
            "LEADSTREAM_APP_ID": "1",
            "LEADSTREAM_APP_SECRET": SECRET,
            "LEADSTREAM_VERIFY_TOKEN": "a token",
            "LEADSTREAM_STATE_DIR": str(home),
            "LEADSTREAM_WAREHOUSE": str(home / "warehouse"),
            "LEADSTREAM_PORT": str(self.port),
            "LEADSTREAM_ADMIN_PORT": str(self.admin_port),
            "LEADSTREAM_KAFKA_PORT": str(self.kafka_port),
            "LEADSTREAM_GRAPH_URL": f"http://127.0.0.1:{free_ports()}",
            name: value,
            **settings,
        }
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as out:
            self.process = subprocess.Popen([*_COMMAND, "up"], env=self.environ, stdout=out, stderr=out)
        self.await_ready()

    def await_ready(self) -> None:
        wait(lambda: "Ctrl-C stops everything" in self.said() or self._has_ended())
        assert not self._has_ended(), self.said()

    def _has_ended(self) -> bool:
        return self.process is None or self.process.poll() is not None

    def said(self) -> str:
        return self.log.read_text() if self.log.exists() else ""

    def lines(self) -> list[str]:
        return [command_line(pid) for pid in marked_processes(self._mark)]

    def pid_of(self, command: str) -> int:
        return next(pid for pid in marked_processes(self._mark) if command_line(pid).endswith(command))

    def kafka_pid(self) -> int:
        pid: int = json.loads((self.home / "kafka" / "node.json").read_text())["pid"]
        return pid

    def ready(self, stage: int) -> bool:
        try:
            with _DIRECT.open(f"http://127.0.0.1:{self.admin_port + stage}/readyz", timeout=5):
                return True
        except (OSError, urllib.error.HTTPError):
            return False

    def restarts(self) -> Counter[str]:
        """By process; there is no file before the first."""
        noted = self.home / "restarts.json"
        return Counter(json.loads(noted.read_text()) if noted.exists() else {})

    def kill_the_rest(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
        for pid in marked_processes(self._mark):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        wait(lambda: not marked_processes(self._mark))


_COMMAND = (sys.executable, "-m", "cli")
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Up]:
    up = Up(tmp_path / "state")
    yield up
    up.kill_the_rest()


def wait(until: Callable[[], bool], within: float = 600.0) -> None:
    """The limit is only there so that a failure ends."""
    deadline = time.monotonic() + within
    while not until():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def post(up: Up, numbers: range, meta: Meta) -> None:
    """Post until each is answered 200."""
    meta.port = up.port
    asyncio.run(meta.post_all(numbers, connections=4))


def test_ctrl_c_three_times_in_a_second_leaves_no_process(up: Up) -> None:
    up.start()
    assert len(up.lines()) == _ALL, up.lines()
    assert up.process is not None

    for _ in range(3):
        up.process.send_signal(signal.SIGINT)
        time.sleep(0.3)

    assert up.process.wait(120) == 0
    assert up.lines() == []
    assert up.said().endswith("stopped\n")
    assert " is killed" in up.said()


def test_a_closed_terminal_stops_everything(up: Up) -> None:
    terminal, inside = os.openpty()

    def become_its_foreground() -> None:
        fcntl.ioctl(inside, termios.TIOCSCTTY, 0)
        # Where the tests run under `nohup`, every process inherits to ignore it, and `up` would go on as it should.
        signal.signal(signal.SIGHUP, signal.SIG_DFL)

    up.process = subprocess.Popen(
        [*_COMMAND, "up"],
        env=up.environ,
        stdin=inside,
        stdout=inside,
        stderr=inside,
        start_new_session=True,
        preexec_fn=become_its_foreground,  # this process has no other threads here
    )
    os.close(inside)
    shown = b""
    while b"Ctrl-C stops everything" not in shown:
        shown += os.read(terminal, 4096)
    assert len(up.lines()) == _ALL, up.lines()

    os.close(terminal)

    up.process.wait(120)
    assert up.lines() == []


def test_a_killed_up_takes_kafka_and_all_stages_along_and_the_next_one_starts_at_once(up: Up) -> None:
    up.start()
    assert up.process is not None
    meta = Meta(up.port)
    post(up, range(20), meta)

    up.process.kill()
    up.process.wait()
    up.log.unlink()
    up.start()

    assert len(up.lines()) == _ALL, up.lines()
    comparison = asyncio.run(compare(f"127.0.0.1:{up.kafka_port}", meta.journal))
    assert (comparison.missing, comparison.foreign) == (0, 0)
    up.process.kill()
    up.process.wait()
    wait(lambda: not up.lines())


def test_a_second_up_ends_with_a_line_and_touches_nothing(up: Up) -> None:
    up.start()
    assert up.process is not None
    logs = {path.name: path.stat().st_ino for path in (up.home / "logs").iterdir()}
    ports = {"LEADSTREAM_PORT": str(free_ports()), "LEADSTREAM_ADMIN_PORT": str(free_ports(7))}

    for settings in ({}, ports):
        second = subprocess.run(
            [*_COMMAND, "up"], env={**up.environ, **settings}, capture_output=True, text=True, timeout=60, check=False
        )

        assert second.returncode == 1
        assert second.stdout == ""
        assert second.stderr.startswith(
            f"Error: `leadstream up` runs in {up.home} already, as process {up.process.pid}"
        )
        assert second.stderr.count("\n") == 1
    assert {path.name: path.stat().st_ino for path in (up.home / "logs").iterdir()} == logs
    assert all(up.ready(stage) for stage in range(len(_STAGES)))


def test_ingest_goes_on_while_kafka_cannot_be_started(up: Up) -> None:
    up.start()
    meta = Meta(up.port)
    post(up, range(10), meta)

    with socket.socket() as squatter:
        squatter.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        os.kill(up.kafka_pid(), signal.SIGKILL)
        wait(lambda: _binds(squatter, up.kafka_port))
        squatter.listen()
        wait(lambda: up.said().count("Kafka cannot be started: port") >= 2)
        post(up, range(10, 20), meta)

    wait(lambda: up.restarts()["kafka"] == 1 and all(up.ready(stage) for stage in range(len(_STAGES))))
    wait(lambda: _is_complete(up, meta))
    assert up.restarts()["ingest"] == 0
    assert len(meta.journal.receipts) == 20


def _is_complete(up: Up, meta: Meta) -> bool:
    try:
        return asyncio.run(compare(f"127.0.0.1:{up.kafka_port}", meta.journal)).missing == 0
    except KafkaConnectionError:
        # A stage that has nothing to do is ready for a moment longer than Kafka.
        return False


def _binds(squatter: socket.socket, port: int) -> bool:
    try:
        squatter.bind(("127.0.0.1", port))
    except OSError:
        return False
    return True


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=400m", "tmpfs", str(disk)], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip("a file system can be mounted by root only")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


def test_a_disk_that_is_full_for_a_moment_ends_nothing_for_good(small_disk: Path) -> None:
    up = Up(small_disk / "state")
    up.log = small_disk.with_name("up.log")
    try:
        up.start()
        meta = Meta(up.port)
        post(up, range(10), meta)
        filler = small_disk / "filler"
        _fill(filler)

        os.kill(up.kafka_pid(), signal.SIGKILL)
        os.kill(up.pid_of("-m cli streams"), signal.SIGKILL)
        wait(lambda: up.said().count("Kafka ") >= 3 and "streams ended" in up.said())
        filler.unlink()
        post(up, range(10, 20), meta)

        wait(lambda: all(up.ready(stage) for stage in range(len(_STAGES))))
        assert up.process is not None
        assert up.process.poll() is None
        wait(lambda: _is_complete(up, meta))
    finally:
        up.kill_the_rest()


def _fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(65536))


def test_a_child_that_hangs_and_a_kafka_that_hangs_are_replaced(up: Up) -> None:
    up.start()
    hung = up.pid_of("-m cli sink send")

    os.kill(hung, signal.SIGSTOP)
    wait(lambda: up.restarts()["sink-send"] == 1)

    assert not command_line(hung)
    wait(lambda: up.ready(2))
    kafka = up.kafka_pid()
    os.kill(kafka, signal.SIGSTOP)
    wait(lambda: up.restarts()["kafka"] == 1)
    assert not command_line(kafka)
    wait(lambda: all(up.ready(stage) for stage in range(len(_STAGES))))


def test_proxies_of_the_environment_do_not_keep_up_and_doctor_from_this_machine(tmp_path: Path) -> None:
    nobody = f"http://127.0.0.1:{free_ports()}"
    up = Up(tmp_path / "state", http_proxy=nobody, https_proxy=nobody, all_proxy=nobody)
    try:
        up.start()
        doctor = subprocess.run(
            [*_COMMAND, "doctor", "--json"], env=up.environ, capture_output=True, text=True, timeout=120, check=False
        )
        checks = json.loads(doctor.stdout)["checks"]

        stages = {check["place"]: check["standing"] for check in checks if check["check"] == "stage"}
        assert stages == dict.fromkeys(("ingest", "streams", "sink-send", "sink-warehouse", "sink-transcripts"), "ok")
    finally:
        up.kill_the_rest()
