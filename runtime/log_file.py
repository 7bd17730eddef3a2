"""The log of a process in its own file, which is cut into pieces of a bounded size."""

import fcntl
import io
import os
from itertools import pairwise
from pathlib import Path

from runtime.private_directory import make_missing

# The newest has the name of the log; the older ones have a number behind it, which grows with their age.
PIECES = 8
_OUTPUT, _ERRORS = 1, 2


class LogFile(io.RawIOBase):
    """A log in the file `path`; all pieces together take about `limit` bytes.

    With `is_output` standard output and standard error go there too. Processes may share a log: each moves on to a
    piece that another process began. Raises `OSError`.
    """

    def __init__(self, path: Path, limit: int, *, is_output: bool = True) -> None:
        self._path = path
        self._piece = limit // PIECES
        make_missing(path.parent)
        self._descriptors = (_ERRORS, _OUTPUT) if is_output else (os.open(os.devnull, os.O_WRONLY),)
        self._open()

    def writable(self) -> bool:
        return True

    def write(self, data: bytes, /) -> int:  # type: ignore[override] # logging writes nothing else
        """The number of bytes written. Raises `OSError`."""
        self._turn_over()
        return os.write(self._descriptors[0], data)

    def _turn_over(self) -> None:
        """Begin a new piece where this one is full. Where the disk refuses, this one goes on."""
        try:
            if self._is_current(size_matters=True):
                return
            directory = os.open(self._path.parent, os.O_RDONLY)
            try:
                fcntl.flock(directory, fcntl.LOCK_EX)
                if self._is_current(size_matters=False):
                    set_aside(self._path)
                self._open()
            finally:
                os.close(directory)
        except OSError:
            return

    def _is_current(self, *, size_matters: bool) -> bool:
        """Whether we write to the newest piece and, if `size_matters`, it has room."""
        ours = os.fstat(self._descriptors[0])
        if size_matters and ours.st_size >= self._piece:
            return False
        try:
            newest = self._path.stat()
        except FileNotFoundError:
            return False
        return (ours.st_dev, ours.st_ino) == (newest.st_dev, newest.st_ino)

    def _open(self) -> None:
        descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        for ours in self._descriptors:
            os.dup2(descriptor, ours)
        os.close(descriptor)


def pieces_of(log: Path) -> list[Path]:
    """The names of all pieces of a log, the newest first."""
    return [log, *(log.with_name(f"{log.name}.{number}") for number in range(1, PIECES))]


def set_aside(log: Path) -> None:
    """Give the log and its older pieces the next number; the oldest of them is removed."""
    for younger, older in reversed(list(pairwise(pieces_of(log)))):
        if younger.exists():
            younger.replace(older)
