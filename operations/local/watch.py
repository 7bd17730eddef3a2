"""When a supervised process counts as hung, and how long its next start waits."""

from dataclasses import dataclass

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
