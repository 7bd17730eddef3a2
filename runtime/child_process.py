"""Children that end with their parent, also when it is killed: Linux's parent-death signal.

Elsewhere (macOS) a killed parent leaves its children; a parent that ends by itself stops them on every system.
"""

import ctypes
import os
import signal
import sys
from collections.abc import Sequence

_PR_SET_PDEATHSIG = 1


def ending_with_us(command: Sequence[str]) -> list[str]:
    """The command, changed so that its process gets SIGTERM when this process ends. Its pid is that of the command.

    Linux ties the signal to the thread: start the command in the main thread, or in one that lives as long
    as the process.
    The command's own children are not covered.
    """
    # Without site-packages it takes a few milliseconds, and no code has to run between fork and exec.
    return [sys.executable, "-I", "-S", __file__, str(os.getpid()), *command]


def end_with(parent: int) -> None:
    """Have this process get SIGTERM when its parent ends; at once if that has ended already."""
    if sys.platform != "linux":
        return
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "the parent-death signal cannot be set")
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGTERM)


def main() -> None:
    parent, *command = sys.argv[1:]
    end_with(int(parent))
    os.execvp(command[0], command)


if __name__ == "__main__":
    main()
