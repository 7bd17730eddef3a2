"""The supervisor of one program: starts it again when it has ended, and ends it when it hangs."""

import json
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from runtime.file_faults import reason
from runtime.local_kafka.jars import KafkaNodeError

_RESTARTS = "restarts.json"
_STOP_TIMEOUT = 20.0
_LOOK_EVERY = 5.0
# Counted in looks, not in seconds: while this process itself was stopped, no process is late. Two minutes are longer
# than any batch or rebalance.
_HUNG_AFTER = 24
# Reading a large spool or recovering Kafka's log comes before the first answer.
_NEVER_STARTED_AFTER = 120
_WELL_AFTER = 12
_LONGEST_PAUSE = 30.0


@dataclass(slots=True)
class Watch:
    """The health of one process over time: `report` each look, and ask for a `pause` after each end."""

    look_every: float = _LOOK_EVERY
    hung_after: int = _HUNG_AFTER
    never_started_after: int = _NEVER_STARTED_AFTER
    _failures: int = 0
    _well: int = 0
    _unwell: int = 0
    _has_answered: bool = False
    _next_look: float = 0.0

    def is_due(self, at: float) -> bool:
        """Whether the next look is due; it then counts as done now."""
        if at < self._next_look:
            return False
        self._next_look = at + self.look_every
        return True

    def report(self, *, well: bool) -> None:
        """Note a look. After a minute of health the pauses start at one second again."""
        if not well:
            self._well, self._unwell = 0, self._unwell + 1
            return
        self._well, self._unwell, self._has_answered = self._well + 1, 0, True
        if self._well >= _WELL_AFTER:
            self._failures = 0

    @property
    def is_hung(self) -> bool:
        """Whether the process should be replaced: too long without health, two minutes or, from its start, ten."""
        return self._unwell >= (self.hung_after if self._has_answered else self.never_started_after)

    def pause(self) -> float:
        """Seconds before the next start: 1, 2, 4 … 30."""
        pause = min(2.0**self._failures, _LONGEST_PAUSE)
        self._failures += 1
        self._well = self._unwell = 0
        self._has_answered = False
        return pause


@dataclass(slots=True, kw_only=True)
class Supervised(ABC):
    """A program that `tend`, called again and again, keeps running. Its subclass knows how to start and end it."""

    name: str
    log: Path
    say: Callable[[str], None]
    watch: Watch = field(default_factory=Watch)
    stop_within: float = _STOP_TIMEOUT
    restarts: int = 0
    _restart_at: float | None = None
    _kill_at: float | None = None

    @abstractmethod
    def ended(self) -> str | None:
        """How the program ended, as "has ended"; None while it runs."""

    @abstractmethod
    def unwell(self) -> str | None:
        """The fault of the program's answer, as "it answers nobody"; None where nothing is."""

    @abstractmethod
    def launch(self) -> None:
        """Start it without waiting. Raises `OSError`, `KafkaNodeError`."""

    @abstractmethod
    def end(self, *, at_once: bool) -> None:
        """Have it end in order, or `at_once`."""

    def tend(self) -> None:
        """Start the program again after 1, 2, 4 … 30 seconds, or end it when it has been unwell for two minutes.

        Raises for no fault of the program or the disk.
        """
        try:
            how = self.ended()
            if how is None:
                self._check_health()
            elif self._restart_at is None:
                self._pause(f"{self.name} {how}, see {self.log}")
            elif time.monotonic() >= self._restart_at:
                self.launch()
                self._restart_at = None
                self.restarts += 1
        except (KafkaNodeError, OSError) as fault:
            problem = reason(fault) if isinstance(fault, OSError) else str(fault)
            self._pause(f"{self.name} cannot be started: {problem}")

    def _check_health(self) -> None:
        at = time.monotonic()
        if self._kill_at is not None:
            if at >= self._kill_at:
                self.end(at_once=True)
        elif self.watch.is_due(at):
            fault = self.unwell()
            self.watch.report(well=fault is None)
            if self.watch.is_hung:
                self.say(f"{self.name} hangs, {fault}; it is ended, see {self.log}")
                self._kill_at = at + self.stop_within
                self.end(at_once=False)

    def _pause(self, problem: str) -> None:
        pause = self.watch.pause()
        self._restart_at, self._kill_at = time.monotonic() + pause, None
        self.say(f"{problem}; again in {pause:.0f} s")


def unless_unheard(say: Callable[[str], None]) -> Callable[[str], None]:
    """Say a line, and lose it where it cannot be written: a closed terminal or a full disk stops no supervisor."""

    def say_or_lose(line: str) -> None:
        with suppress(OSError):
            say(line)

    return say_or_lose


def note_restarts(state_dir: Path, restarts: Mapping[str, int]) -> None:
    """Write down how often `up` has started each process again; where the disk refuses, the next note has it."""
    note = state_dir / _RESTARTS
    with suppress(OSError):
        draft = note.with_suffix(".new")
        draft.write_text(json.dumps(restarts))
        draft.replace(note)


def noted_restarts(state_dir: Path) -> dict[str, int]:
    """The restarts by process; none where nothing is noted."""
    with suppress(OSError, ValueError):
        restarts = json.loads((state_dir / _RESTARTS).read_text())
        if isinstance(restarts, dict):
            return {name: count for name, count in restarts.items() if isinstance(count, int)}
    return {}
