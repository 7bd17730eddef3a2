"""The pauses while a server is unavailable, and the moment from which it counts as back."""

from collections.abc import Callable

_SHORTEST, _LONGEST = 1.0, 30.0
# A full disk lets a sink connect, and refuses what it writes a second later.
_HOLDS = 5.0


class Outage:
    """Pauses of 1, 2, 4 … 30 seconds, from one failure to the next, until nothing has failed for 5 seconds after one.

    `clock` gives seconds from any point on.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._pause = 0.0
        self._until = 0.0

    @property
    def is_on(self) -> bool:
        return self._pause > 0

    @property
    def is_pausing(self) -> bool:
        """Whether it is too early to try again."""
        return self.is_on and self._clock() < self._until

    def note(self) -> float:
        """Something failed; gives the seconds until the next try."""
        self._pause = min(max(2 * self._pause, _SHORTEST), _LONGEST)
        self._until = self._clock() + self._pause
        return self._pause

    def is_over(self) -> bool:
        """Whether the outage has just ended; asked after each success."""
        if not self.is_on or self._clock() < self._until + _HOLDS:
            return False
        self._pause = 0.0
        return True
