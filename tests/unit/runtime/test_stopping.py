"""A process that is told to stop ends, whatever it waits for."""

import subprocess
import sys

_PROGRAM = """
import asyncio, os, signal
from runtime.stopping import stop_at_signals

async def main():
    stop = stop_at_signals(within={within})
    os.kill(os.getpid(), signal.SIGTERM)
    await stop.wait()
    {then}

asyncio.run(main())
"""


def ended(within: float, then: str) -> subprocess.CompletedProcess[str]:
    program = _PROGRAM.format(within=within, then=then)
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)


def test_a_process_that_waits_for_ever_ends_with_1_and_says_so() -> None:
    process = ended(0.1, "await asyncio.Event().wait()")

    assert process.returncode == 1
    assert process.stderr == "stop.unfinished\n"


def test_a_process_that_blocks_its_loop_ends_too() -> None:
    assert ended(0.1, "__import__('threading').Event().wait()").returncode == 1


def test_a_process_that_ends_in_time_is_left_alone() -> None:
    assert ended(3600, "return").returncode == 0
