"""How old the oldest record of a partition is that was not read, as an upper bound that costs no reading."""

from collections.abc import Collection, Hashable
from datetime import datetime


class Lateness:
    """Remembers of each partition a moment up to which all that was written is read."""

    def __init__(self) -> None:
        self._read_until: dict[Hashable, datetime] = {}

    def note(self, partition: Hashable, until: datetime) -> None:
        """All that was written up to then is read: it is the stamp of a record that was, or nothing was left then."""
        self._read_until[partition] = max(until, self._read_until.get(partition, until))

    def seconds(self, partition: Hashable, moment: datetime) -> float:
        """The age of the oldest record that is not read, at most; of a partition that is new here, since it came."""
        return max(0.0, (moment - self._read_until.setdefault(partition, moment)).total_seconds())

    def keep(self, held: Collection[Hashable]) -> None:
        """Forget the partitions that went to another process."""
        for partition in self._read_until.keys() - held:
            del self._read_until[partition]
