"""How far the splitter is: everything received before these times is in, by raw partition."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from messenger.events import Progress

# How far the broker's clock, which stamps receipt, may run behind ours, which sees the end of the log.
CLOCK_SKEW = timedelta(milliseconds=50)


@dataclass(slots=True)
class ProgressKeeper:
    """Says how far each raw partition is, from its records while there are more, from the clock at the end of the log.

    Times never run backwards. A partition that was never read and never seen at its end is left out.
    """

    _read: dict[int, datetime] = field(default_factory=dict)
    _said: dict[int, datetime] = field(default_factory=dict)

    def read(self, partition: int, received_at: datetime) -> None:
        """All events of the records up to the one received then are acked."""
        self._read[partition] = received_at

    def forget(self, assigned: frozenset[int]) -> None:
        """Drop what is known of partitions that have gone to another worker."""
        for known in (self._read, self._said):
            for partition in known.keys() - assigned:
                del known[partition]

    @property
    def is_behind(self) -> bool:
        """Whether an event may still wait for a partition of ours to pass its receipt."""
        newest = max(self._read.values(), default=None)
        known = self._read.keys() | self._said.keys()
        return newest is not None and any(self._said.get(partition, newest) <= newest for partition in known)

    def see(self, ends_seen_at: Mapping[int, datetime]) -> None:
        """Take in how far the partitions are; `ends_seen_at` has those whose every record is done, and when that was
        seen."""
        for partition, time in {**self._read, **{p: t - CLOCK_SKEW for p, t in ends_seen_at.items()}}.items():
            self._said[partition] = max(time, self._said.get(partition, time))

    @property
    def progress(self) -> Progress:
        return Progress(tuple(sorted(self._said.items())))
