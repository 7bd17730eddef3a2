"""Children that end with their parent."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from runtime.child_process import ending_with_us

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the parent-death signal is Linux's")

# Starts a child that says its pid and waits, then waits itself.
_PARENT = """
import subprocess, sys, time
from runtime.child_process import ending_with_us
child = [sys.executable, "-c", "import os, time; print(os.getpid(), flush=True); time.sleep(60)"]
subprocess.Popen(ending_with_us(child)).wait()
"""


def test_a_child_of_a_killed_parent_ends() -> None:
    with subprocess.Popen([sys.executable, "-c", _PARENT], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        parent.kill()

    wait_for_end(child)


def test_a_child_that_starts_after_its_parent_has_ended_runs_nothing(tmp_path: Path) -> None:
    trace = tmp_path / "ran"
    command = ending_with_us(["touch", str(trace)])
    command[command.index(str(os.getpid()))] = "1"

    done = subprocess.run(command, check=False)

    assert done.returncode == -15
    assert not trace.exists()


def test_a_child_has_the_pid_the_environment_and_the_status_of_its_command(tmp_path: Path) -> None:
    with subprocess.Popen(
        ending_with_us(["sh", "-c", "echo $$ $WORD; exit 7"]),
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "WORD": "kept"},
    ) as child:
        said, _ = child.communicate()

    assert (said.split(), child.returncode) == ([str(child.pid), "kept"], 7)


def wait_for_end(pid: int) -> None:
    deadline = time.monotonic() + 20
    while is_alive(pid):
        assert time.monotonic() < deadline, f"process {pid} goes on"
        time.sleep(0.05)


def is_alive(pid: int) -> bool:
    """An orphan that nobody has waited for counts as ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
