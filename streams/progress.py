"""How far the splitter is: it has written everything received before these times, by raw partition."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from leads.facts import Progress
from runtime.plausible import TOLERANCE

# How far the broker's clock, which stamps receipt, may run behind ours, which sees the end of the log.
CLOCK_SKEW = timedelta(milliseconds=50)


@dataclass(slots=True)
class ProgressKeeper:
    """Says how far each raw partition is, from its records while there are more, from the clock at the end of the log.

    Times that are minutes ahead of the plausible time are refused. Other times never run backwards. A partition that
    was never read and never seen at its end is left out.
    """

    _read: dict[int, datetime] = field(default_factory=dict)
    _stamps: dict[int, datetime] = field(default_factory=dict)
    _reported: dict[int, datetime] = field(default_factory=dict)
    _refused: dict[int, timedelta] = field(default_factory=dict)

    def read(self, partition: int, received_at: datetime, stamp: datetime) -> None:
        """All events of the records up to the one received then are acked; `stamp` is the broker's, of that one."""
        self._read[partition], self._stamps[partition] = received_at, stamp

    def forget(self, assigned: frozenset[int]) -> None:
        """Drop what is known of partitions that have gone to another worker."""
        for known in (self._read, self._stamps, self._reported, self._refused):
            for partition in known.keys() - assigned:
                del known[partition]

    def see(self, ends_seen_at: Mapping[int, datetime], wall: datetime, plausible: datetime) -> None:
        """Take in how far the partitions are; `ends_seen_at` has those whose every record is done, and when that was
        seen, by the clock that shows `wall` now. `plausible` is the time now.

        A time that was reported and is no longer plausible is withdrawn: the clock had jumped ahead, and is back.
        """
        latest = plausible + TOLERANCE
        self._reported = {partition: time for partition, time in self._reported.items() if time <= latest}
        self._read = {partition: time for partition, time in self._read.items() if time <= latest}
        shown = [*self._stamps.items(), *ends_seen_at.items()]
        self._refused = {partition: time - plausible for partition, time in shown if time > latest}
        ends = {partition: time - (wall - plausible) - CLOCK_SKEW for partition, time in ends_seen_at.items()}
        for partition, time in [*self._read.items(), *ends.items()]:
            if time <= latest:
                self._reported[partition] = max(time, self._reported.get(partition, time))

    @property
    def refused(self) -> Mapping[int, timedelta]:
        """How far ahead of the plausible time the stamp of a partition's last record or its end is, where it is."""
        return self._refused

    @property
    def progress(self) -> Progress:
        return Progress(tuple(sorted(self._reported.items())))
