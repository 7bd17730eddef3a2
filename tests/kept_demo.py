"""A demo that stays up, as a process, and the commands that mean it."""

import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from os import environ as _environ
from pathlib import Path

LEADSTREAM = [sys.executable, "-m", "cli"]
PATIENCE = 600.0
_CONSOLE = re.compile(r"The console is at (\S+)")


@dataclass(slots=True)
class KeptDemo:
    """`home` is its state directory. A command with `environ` means it."""

    home: Path
    _out: Path
    _process: "subprocess.Popen[bytes]"
    environ: Mapping[str, str] = field(init=False)

    def __post_init__(self) -> None:
        file = self.home / "environment"
        self._await(lambda: file.exists() and file.stat().st_size > 0)
        script = f". {shlex.quote(str(file))}; env -0"
        shell = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True)
        lines = (line.partition("=") for line in shell.stdout.split("\0") if line)
        self.environ = {name: value for name, _, value in lines}

    def await_console(self) -> str:
        """The address of its console, which is there once the campaign is over."""
        self._await(lambda: _CONSOLE.search(self._printed()) is not None)
        found = _CONSOLE.search(self._printed())
        assert found is not None
        return found[1]

    def leadstream(self, *arguments: str, **changed: str) -> "subprocess.CompletedProcess[str]":
        """A command that has ended, with some variables changed."""
        return subprocess.run(
            [*LEADSTREAM, *arguments],
            env={**self.environ, **changed},
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )

    def _await(self, holds: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not holds():
            assert time.monotonic() < deadline, self._printed()
            assert self._process.poll() is None, self._printed()
            time.sleep(0.2)

    def _printed(self) -> str:
        return self._out.read_text(errors="replace")


@contextmanager
def kept_demo(place: Path, *, leads: int) -> Iterator[KeptDemo]:
    """Run `leadstream demo --keep` in a directory; it may not have come far when this begins."""
    environ = {**_environ, "LEADSTREAM_STATE_DIR": str(place / "state")}
    out = place / "demo.log"
    with running(["demo", "--keep", "--leads", str(leads)], environ, out) as process:
        yield KeptDemo(place / "state" / "demo", out, process)


@contextmanager
def running(arguments: Sequence[str], environ: Mapping[str, str], out: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """A command while the context lasts; then it is interrupted, as by Ctrl-C."""
    with out.open("wb") as file:
        process = subprocess.Popen([*LEADSTREAM, *arguments], env=environ, stdout=file, stderr=subprocess.STDOUT)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(timeout=PATIENCE)
