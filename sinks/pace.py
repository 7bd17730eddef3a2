"""How fast to call the Graph API: a rate for each Page, and growing pauses after failures."""

from collections.abc import Callable
from datetime import datetime, timedelta

_FIRST_PAUSE = timedelta(seconds=1)
_LONGEST_PAUSE = timedelta(minutes=2)


class Pace:
    """Spreads calls evenly: at most `per_second` for each Page."""

    def __init__(self, per_second: float) -> None:
        self._spacing = timedelta(seconds=1 / per_second)
        self._free_at: dict[str, datetime] = {}

    def reserve(self, page_id: str, now: datetime) -> datetime:
        """The time at which the next call for this Page may be made; that turn is then taken."""
        turn = max(now, self._free_at.get(page_id, now))
        self._free_at[page_id] = turn + self._spacing
        return turn

    def hold(self, page_id: str, until: datetime) -> None:
        """Give no turn to this Page before `until`."""
        self._free_at[page_id] = max(until, self._free_at.get(page_id, until))


def pause_after(failures: int, fraction: Callable[[], float]) -> timedelta:
    """How long to wait after so many failures in a row: exponential, with full jitter from `fraction` (0 to 1)."""
    # https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
    ceiling = min(_LONGEST_PAUSE, _FIRST_PAUSE * (1 << min(failures - 1, 16)))
    return ceiling * fraction()
