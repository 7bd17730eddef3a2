"""One `up` in a state directory at a time, and what it left is waited for."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from operations.local import state_lock
from operations.local.state_lock import is_held, locked
from operations.reporting import OperationError


def test_a_second_holder_is_refused_with_the_pid_of_the_first(tmp_path: Path) -> None:
    with locked(tmp_path, "up", print):
        assert is_held(tmp_path, "up")
        with pytest.raises(OperationError, match=rf"as process {os.getpid()}: .*LEADSTREAM_STATE_DIR"):
            locked(tmp_path, "up", print).__enter__()

    assert not is_held(tmp_path, "up")
    with locked(tmp_path, "up", print):
        pass


def test_other_commands_have_a_lock_of_their_own(tmp_path: Path) -> None:
    with locked(tmp_path, "up", print), locked(tmp_path, "demo", print):
        assert is_held(tmp_path, "demo")


def test_children_of_a_killed_holder_are_waited_for(tmp_path: Path) -> None:
    said: list[str] = []
    with locked(tmp_path, "up", said.append) as lock:
        orphan = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, pass_fds=(lock,))
    # As after its end: nobody has this pid.
    state_lock.lock_path(tmp_path, "up").write_text(str(2**22 + 1))

    def end_the_orphan(line: str) -> None:
        said.append(line)
        orphan.communicate()

    with locked(tmp_path, "up", end_the_orphan):
        pass

    assert said == ["Waiting for the processes of a `leadstream up` that was killed to end"]


def test_children_of_a_killed_holder_that_do_not_end_are_named(tmp_path: Path) -> None:
    with locked(tmp_path, "up", print) as lock:
        orphan = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, pass_fds=(lock,))
    state_lock.lock_path(tmp_path, "up").write_text(str(2**22 + 1))

    with pytest.raises(OperationError, match=r"end those that `fuser .*up.lock` names"):
        locked(tmp_path, "up", lambda _: None, orphans_end_within=0.2).__enter__()

    orphan.communicate()


def test_a_directory_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("")

    with pytest.raises(OperationError, match=r"up\.lock cannot be written"):
        locked(tmp_path / "state", "up", print).__enter__()
