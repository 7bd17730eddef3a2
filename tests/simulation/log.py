"""The log of one partition: what readers see of it, what a follower does not have yet, and what was in it ever."""

from bisect import bisect_left
from dataclasses import dataclass, field
from operator import attrgetter
from typing import NamedTuple

Headers = tuple[tuple[str, bytes], ...]


class Stored(NamedTuple):
    """A record as a consumer gets it."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Headers = ()


@dataclass(slots=True)
class Log:
    """The records of a partition from offset `start` on; earlier ones were there before the run, and are deleted.

    `waiting` are at the leader alone: nobody reads them, and they are lost with it. `kept` is what compaction has left.
    """

    start: int
    written: list[Stored] = field(default_factory=list)
    kept: list[Stored] = field(default_factory=list)
    waiting: list[Stored] = field(default_factory=list)

    @property
    def end(self) -> int:
        """The offset after the last record that may be read."""
        return self.start + len(self.written)

    @property
    def end_of_leader(self) -> int:
        return self.end + len(self.waiting)

    def replicate(self) -> None:
        """The follower has caught up."""
        self.written += self.waiting
        self.kept += self.waiting
        self.waiting.clear()

    def read(self, offset: int, most: int) -> list[Stored]:
        """The first records from this offset on."""
        first = offset - self.start
        if len(self.kept) != len(self.written):
            first = bisect_left(self.kept, offset, key=attrgetter("offset"))
        return self.kept[first : first + most]

    def compacted(self) -> list[Stored]:
        """The records that compaction has taken."""
        kept = {record.offset for record in self.kept} if len(self.kept) != len(self.written) else None
        return [] if kept is None else [record for record in self.written if record.offset not in kept]

    def compact(self, before: int, tombstones_before: int) -> None:
        """Of the records before an offset keep the last of each key, and no tombstone that is as old as this."""
        last = {record.key: record.offset for record in self.kept if record.offset < before}
        self.kept = [
            record
            for record in self.kept
            if record.offset >= before
            or (
                record.offset == last[record.key]
                and not (record.value is None and record.timestamp < tombstones_before)
            )
        ]
