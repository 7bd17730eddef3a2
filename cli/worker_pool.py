"""Several workers of one kind as processes: told to stop together, and none goes on when one has died."""

import asyncio
import signal
from asyncio.subprocess import Process
from collections.abc import Sequence

from runtime.child_process import ending_with_us

# Longer than a worker takes to finish the batch that it has in hand.
_STOP_TIMEOUT = 60.0


class WorkerDied(Exception):
    """A worker ended by itself, or badly; the message says which and how."""


async def run_workers(commands: Sequence[Sequence[str]]) -> None:
    """Run the commands until SIGTERM or Ctrl-C, which they all get as SIGTERM. Raises `WorkerDied`."""
    stop = asyncio.Event()
    for signal_number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(signal_number, stop.set)
    # Ctrl-C is for us alone: in sessions of their own the workers get it once, from here.
    workers = [
        await asyncio.create_subprocess_exec(*ending_with_us(command), start_new_session=True) for command in commands
    ]
    waits = [asyncio.create_task(worker.wait()) for worker in workers]
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait((*waits, stopping), return_when=asyncio.FIRST_COMPLETED)
    ended = {number: worker.returncode for number, worker in enumerate(workers) if worker.returncode is not None}
    await asyncio.gather(*(_stop(worker) for worker in workers))
    stopping.cancel()
    bad = {number: worker.returncode for number, worker in enumerate(workers) if worker.returncode != 0}
    for number, status in (ended or bad).items():
        raise WorkerDied(f"worker {number} ended with status {status}; the others were stopped")


async def _stop(worker: Process) -> None:
    if worker.returncode is None:
        worker.terminate()
    try:
        await asyncio.wait_for(worker.wait(), _STOP_TIMEOUT)
    except TimeoutError:
        worker.kill()
        await worker.wait()
