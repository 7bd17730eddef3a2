"""The signals that end `up` and `demo`: the first stops everything in order, the next kills whatever still runs."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType


@dataclass(slots=True)
class Interrupts:
    """`stopping` is set by the first signal, which raises `KeyboardInterrupt`, or before things are stopped.

    From then on nothing is raised, so that no signal leaves a process behind: Ctrl-C or SIGTERM sets `hurried`.
    """

    stopping: bool = False
    hurried: bool = False

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Take the signals of this process, and ignore them once everything is stopped, while it ends.

        A SIGHUP that `nohup` has it ignore stays ignored.
        """
        self._install()
        try:
            yield
        finally:
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, signal.SIG_IGN)

    def _install(self) -> None:
        # Always these two: a shell that starts a background job has it ignore Ctrl-C.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._take)
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
            signal.signal(signal.SIGHUP, self._take)

    def _take(self, number: int, _frame: FrameType | None) -> None:
        if not self.stopping:
            self.stopping = True
            raise KeyboardInterrupt
        # A terminal that is closed sends SIGHUP twice: once itself, once by its shell.
        self.hurried = self.hurried or number != signal.SIGHUP
