"""One `up` and one `demo` in a state directory at a time: a lock that ends with the process and its children."""

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from operations.reporting import OperationError
from runtime.file_faults import reason
from runtime.private_directory import make_missing
from runtime.settings import variable

_ORPHANS_END_WITHIN = 45.0
_POLL = 0.1


@contextmanager
def locked(
    state_dir: Path, command: str, say: Callable[[str], None], *, orphans_end_within: float = _ORPHANS_END_WITHIN
) -> Iterator[int]:
    """Hold the lock of `command` in the state directory, and give its descriptor, which children inherit.

    Where the holder was killed, wait until its children have ended too. Raises `OperationError` while another holds it.
    """
    path = lock_path(state_dir, command)
    try:
        make_missing(path.parent)
        lock = path.open("a+")
    except OSError as fault:
        raise OperationError(f"{path} cannot be written: {reason(fault)}") from None
    with lock:
        _take(lock, path, command, say, orphans_end_within)
        try:
            lock.truncate(0)
            lock.write(str(os.getpid()))
            lock.flush()
        except OSError as fault:
            raise OperationError(f"{path} cannot be written: {reason(fault)}") from None
        fcntl.fcntl(lock, fcntl.F_SETFD, 0)
        yield lock.fileno()


def lock_path(state_dir: Path, command: str) -> Path:
    return state_dir / f"{command}.lock"


def is_held(state_dir: Path, command: str) -> bool:
    """Whether such a command runs there."""
    try:
        with lock_path(state_dir, command).open() as lock:
            return not _lock(lock, fcntl.LOCK_SH)
    except OSError:
        return False


def _take(lock: TextIO, path: Path, command: str, say: Callable[[str], None], orphans_end_within: float) -> None:
    deadline: float | None = None
    while not _lock(lock, fcntl.LOCK_EX):
        lock.seek(0)
        holder = lock.read().strip()
        if holder.isdigit() and _runs(int(holder)):
            raise OperationError(
                f"`leadstream {command}` runs in {path.parent} already, as process {holder}: stop that process, "
                f"or set {variable('state_dir')} and the ports for another"
            )
        if deadline is None:
            say(f"Waiting for the processes of a `leadstream {command}` that was killed to end")
            deadline = time.monotonic() + orphans_end_within
        if time.monotonic() > deadline:
            raise OperationError(
                f"processes of a `leadstream {command}` that was killed still run: end those that `fuser {path}` names"
            )
        time.sleep(_POLL)


def _lock(lock: TextIO, how: int) -> bool:
    try:
        fcntl.flock(lock, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # another user's
    return True
