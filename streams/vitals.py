"""What the health of a streams worker rests on: how long it has been without its partitions, or at one batch."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from faust.types import TP

# Longer than any batch takes and any rebalance lasts, so that whoever restarts what is red does so for a reason.
PATIENCE = timedelta(minutes=2)


@dataclass(slots=True)
class Vitals:
    """Times come in. `since` is when the worker last had its partitions, or came nearer to them.

    `finished` is the offset after the last finished batch of each partition.
    """

    since: datetime
    finished: dict[TP, int] = field(default_factory=dict)
    _in_hand: dict[TP, datetime] = field(default_factory=dict)
    _unsettled: bool = True
    _recovered: int = 0

    @contextmanager
    def batch(self, tp: TP, last_offset: int, at: datetime) -> Iterator[None]:
        """Around the work on a batch that was handed to an agent at that time."""
        self._in_hand[tp] = at
        yield
        # Not in a `finally`: a batch that raised stays unfinished.
        del self._in_hand[tp]
        self.finished[tp] = last_offset + 1

    def keep(self, assigned: Collection[TP]) -> None:
        """Forget what was finished of partitions that went to another worker."""
        self.finished = {tp: offset for tp, offset in self.finished.items() if tp in assigned}

    def look(self, *, settled: bool, recovered: int, at: datetime) -> None:
        """Take in whether the worker has its partitions, and how many keys of state, which show that it goes on."""
        if settled or not self._unsettled or recovered != self._recovered:
            self.since = at
        self._unsettled, self._recovered = not settled, recovered

    def complaint(self, at: datetime) -> str | None:
        """Why somebody should replace this worker, or None."""
        if self._unsettled and at - self.since > PATIENCE:
            return f"without its partitions for {_seconds(at - self.since)}"
        for tp, handed_at in self._in_hand.items():
            if at - handed_at > PATIENCE:
                return f"a batch of {tp.topic}/{tp.partition} is unfinished after {_seconds(at - handed_at)}"
        return None


def _seconds(span: timedelta) -> str:
    return f"{span.total_seconds():.0f} s"
