"""A log that is cut by size: nothing is lost at a cut, and all of it is bounded."""

import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from runtime.log_file import PIECES, set_aside

LIMIT = 2**20
# Writes numbered lines on all ways that lead to the log, from two processes that share it.
WRITER = """
import logging, os, subprocess, sys
from pathlib import Path
from runtime.log_file import LogFile
from runtime.logs import configure_logging
path, limit, name, count = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
log = LogFile(path, limit)
configure_logging("info", secrets=[], file=log)
for number in range(count):
    log.write(f"{name} receipt {number}\\n".encode())
    logging.getLogger(name).info(f"{name} event {number}")
print(f"{name} printed", flush=True)
sys.exit(f"{name} ends")
"""


def write(path: Path, *names: str, count: int, limit: int = LIMIT) -> None:
    with ExitStack() as stack:
        commands = [[sys.executable, "-c", WRITER, str(path), str(limit), name, str(count)] for name in names]
        writers = [stack.enter_context(subprocess.Popen(command)) for command in commands]
    assert [writer.returncode for writer in writers] == [1] * len(names)


def pieces(path: Path) -> list[Path]:
    """The oldest first."""
    return sorted(path.parent.iterdir(), key=lambda piece: int(piece.suffix[1:]) if piece != path else 0, reverse=True)


@pytest.mark.slow
def test_two_processes_lose_nothing_where_their_log_is_cut(tmp_path: Path) -> None:
    path = tmp_path / "log"

    write(path, "first", "second", count=2000)

    assert len(pieces(path)) > 2
    text = "".join(piece.read_text() for piece in pieces(path))
    for name in ("first", "second"):
        receipts = [line for line in text.splitlines() if line.startswith(f"{name} receipt ")]
        assert receipts == [f"{name} receipt {number}" for number in range(2000)]
        assert text.count(f'"event": "{name} event ') == 2000
        assert f"{name} printed\n" in text
        assert f"{name} ends\n" in text


@pytest.mark.slow
def test_all_pieces_together_are_bounded(tmp_path: Path) -> None:
    path, limit = tmp_path / "log", LIMIT // 4

    write(path, "one", count=3_000, limit=limit)

    assert len(pieces(path)) == PIECES
    assert sum(piece.stat().st_size for piece in pieces(path)) < limit * 1.1
    assert all(piece.stat().st_mode & 0o077 == 0 for piece in pieces(path))
    assert "one ends\n" in path.read_text()


def test_a_log_that_is_set_aside_pushes_the_oldest_out(tmp_path: Path) -> None:
    path = tmp_path / "log"
    for run in range(PIECES + 2):
        path.write_text(f"run {run}")
        set_aside(path)

    assert not path.exists()
    assert [piece.read_text() for piece in pieces(path)] == [f"run {run}" for run in range(3, PIECES + 2)]
