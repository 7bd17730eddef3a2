"""The end of a run, however it comes: its processes are killed and its temporary folder is removed.

As a program it waits until its standard input ends, which it does with the process that holds the other end.
"""

import os
import shutil
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

_GONE_WITHIN = 10.0


def main() -> None:
    mark, folder = sys.argv[1:]
    while sys.stdin.buffer.read(1):
        pass
    deadline = time.monotonic() + _GONE_WITHIN
    while (left := marked_processes(mark)) and time.monotonic() < deadline:
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)
    shutil.rmtree(folder, ignore_errors=True)


def marked_processes(mark: str) -> list[int]:
    """The other processes that began with the variable `mark` (NAME=value); none where there is no /proc."""
    wanted = mark.encode()
    return [
        int(process.name)
        for process in Path("/proc").glob("[0-9]*")
        if int(process.name) != os.getpid() and wanted in _environ(process).split(b"\0")
    ]


def command_line(pid: int) -> str:
    """Empty for a process that is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(errors="replace").replace("\0", " ").strip()
    except OSError:
        return ""


def _environ(process: Path) -> bytes:
    # Of another user's process, of a thread of the kernel, or of one that is gone by now.
    try:
        return (process / "environ").read_bytes()
    except OSError:
        return b""


if __name__ == "__main__":
    main()
