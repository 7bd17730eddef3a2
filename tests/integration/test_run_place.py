"""The tests neither see nor change the machine that they run on: each rule of tests/conftest.py and run_place.py."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.run_end import command_line, marked_processes

pytestmark = pytest.mark.integration

_HOSTILE = {
    "LEADSTREAM_STATE_DIR": "elsewhere",
    "LEADSTREAM_WAREHOUSE": "postgresql://127.0.0.1:9/nothing",
    "LEADSTREAM_PAGES": "no-pages.yaml",
    "LEADSTREAM_TOPIC_PREFIX": "not-here-",
    "LEADSTREAM_PARTITIONS": "none",
    "http_proxy": "http://127.0.0.1:9",
    "HTTPS_PROXY": "http://127.0.0.1:9",
    "ALL_PROXY": "socks5://127.0.0.1:9",
    "PGSSLMODE": "verify-full",
    "PGTZ": "Asia/Kathmandu",
    "TZ": "Asia/Kathmandu",
    "LC_ALL": "C",
    "COLUMNS": "20",
    "FORCE_COLOR": "1",
    "XDG_CONFIG_HOME": "no-config",
}
WORKERS: list[list[str]] = [[], ["-n", "2"]]
_WITNESS = """
import json, os, subprocess, sys
from pathlib import Path

SEEN = "import json, os, time; print(json.dumps([dict(os.environ), os.listdir(), os.listdir('%s'), time.tzname]))"

def test_sees_nothing_of_the_machine():
    hostile = json.loads(Path(__file__).with_suffix(".json").read_text())
    seen = subprocess.run([sys.executable, "-c", SEEN % Path.home()], capture_output=True, check=True)
    environ, here, home, zone = json.loads(seen.stdout)
    assert environ.items() & hostile.items() == set()
    assert (here, home, zone) == ([], [], ["UTC", "UTC"])
"""
_FAULTY = """
import subprocess
from pathlib import Path

def test_writes_where_it_is():
    Path("left.txt").touch()

def test_writes_at_home():
    (Path.home() / ".left").touch()

def test_leaves_a_process():
    subprocess.Popen(["sleep", "60"], start_new_session=True)

def test_waits_for_ever():
    subprocess.run(["sleep", "600"], start_new_session=True)

def test_waits_for_ever_beside_kafka(kafka_broker):
    test_waits_for_ever()
"""


@pytest.fixture
def poisoned(tmp_path: Path) -> Path:
    """A working directory and home, with what would break any command that read it."""
    broken = (
        "pages.yaml",
        "followups.yaml",
        ".pgpass",
        ".leadstream/warehouse",
        ".leadstream/spool",
        ".leadstream/kafka",
    )
    (tmp_path / ".leadstream").mkdir()
    for name in broken:
        (tmp_path / name).write_text("{broken")
    return tmp_path


@pytest.fixture
def faulty(tmp_path: Path) -> Path:
    """A test file that breaks the rules."""
    path = tmp_path / "test_faulty.py"
    path.write_text(_FAULTY)
    return path


@contextmanager
def a_run(*arguments: str | Path, place: Path, **environ: str) -> Iterator["subprocess.Popen[str]"]:
    """Pytest in a session of its own, with a mark that all of its processes keep."""
    name, value = _mark_of(place).split("=")
    with subprocess.Popen(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments],
        cwd=place,
        env={**os.environ, "HOME": str(place), "PYTEST_DEBUG_TEMPROOT": str(place), **environ, name: value},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as run:
        try:
            yield run
        finally:
            run.kill()


def test_nothing_of_the_machine_is_read(poisoned: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A process that a test starts sees an empty place, and no setting."""
    before = files_in(poisoned)
    witness = tmp_path_factory.mktemp("witness") / "test_witness.py"
    witness.write_text(_WITNESS)
    witness.with_suffix(".json").write_text(json.dumps(_HOSTILE))

    with a_run("-p", "tests.conftest", witness, place=poisoned, **_HOSTILE) as run:
        said, _ = run.communicate()

    assert run.returncode == 0, said
    assert files_in(poisoned) == before


@pytest.mark.parametrize("workers", WORKERS, ids=str)
def test_tests_that_leave_something_fail_the_run(workers: list[str], faulty: Path, tmp_path: Path) -> None:
    with a_run(*workers, "-p", "tests.conftest", faulty, "-k", "writes or leaves", place=tmp_path) as run:
        said, _ = run.communicate()

    assert run.returncode == 1
    assert "work/left.txt" in said
    assert "home/.left" in said
    if sys.platform == "linux":
        assert "The tests have left these processes:\nsleep 60" in said
        assert command_lines(tmp_path) == []


@pytest.mark.skipif(sys.platform != "linux", reason="processes are found in /proc")
@pytest.mark.parametrize(
    ("signals", "workers", "test"),
    [
        ([signal.SIGKILL], [], "test_waits_for_ever_beside_kafka"),
        ([signal.SIGKILL], ["-n", "2"], "test_waits_for_ever"),
        ([signal.SIGINT, signal.SIGINT], [], "test_waits_for_ever"),
        ([signal.SIGINT, signal.SIGINT], ["-n", "2"], "test_waits_for_ever_beside_kafka"),
    ],
    ids=str,
)
def test_an_ended_run_leaves_neither_processes_nor_files(
    signals: list[signal.Signals], workers: list[str], test: str, faulty: Path, tmp_path: Path
) -> None:
    """A process in a session of its own, which no signal of a terminal reaches, and a Kafka of the run."""
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    # Without a Docker engine it starts a node.
    environ = {"TMPDIR": str(temporary), "DOCKER_HOST": "unix:///nowhere"}
    with a_run(*workers, "-p", "tests.conftest", f"{faulty}::{test}", place=tmp_path, **environ) as run:
        wait(lambda: any("sleep 600" in line for line in command_lines(tmp_path)))
        running = command_lines(tmp_path)
        for number in signals:
            run.send_signal(number)
            time.sleep(0.2)
        run.wait()
    wait(lambda: not command_lines(tmp_path))
    wait(lambda: not list(temporary.iterdir()))

    assert any("kafka.Kafka" in line for line in running) == test.endswith("_beside_kafka")


def files_in(place: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in place.rglob("*") if path.is_file() and "pytest-of-" not in str(path)}


def command_lines(place: Path) -> list[str]:
    return [command_line(pid) for pid in marked_processes(_mark_of(place))]


def _mark_of(place: Path) -> str:
    return f"PYTEST_RUN_IN={place.name}"


def wait(until: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not until():
        assert time.monotonic() < deadline
        time.sleep(0.1)
