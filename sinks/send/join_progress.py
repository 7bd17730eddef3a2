"""How far the join is: a command that is not fresh waits for it, because its cancellation may not be emitted yet."""

from collections import deque
from collections.abc import Awaitable, Callable, Collection, Mapping
from datetime import datetime, timedelta

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from leads.facts import Progress

# The splitter reports its progress once a second, and the join commits twice a second.
FRESH = timedelta(seconds=5)
_LOOK_EVERY = timedelta(milliseconds=500)
# Of a report that is older than this many newer ones nothing follows: the time in it is long past.
_REPORTS = 32


class JoinProgress:
    """Says whether everything that was received through a raw partition before a time is joined.

    The splitter reports in every partition of the events that all of a raw partition up to a time lies before the
    report; once the join's committed offset is behind the report, all outputs up to that time are durable. `committed`
    gives the join's committed offsets, `clock` is our own. `look` asks for them, and is called when `is_due`.
    """

    def __init__(
        self,
        committed: Callable[[Collection[TopicPartition]], Awaitable[Mapping[TopicPartition, int]]],
        clock: Callable[[], datetime],
    ) -> None:
        self._committed, self._clock = committed, clock
        self._reports: dict[TopicPartition, deque[tuple[int, Progress]]] = {}
        self._joined: dict[tuple[TopicPartition, int], datetime] = {}
        self._looked_at: datetime | None = None
        self._is_asked = False

    def hold(self, partitions: Collection[TopicPartition]) -> None:
        """Hold exactly these partitions of the events, and forget all reports."""
        self._reports = {place: deque(maxlen=_REPORTS) for place in partitions}
        self._joined.clear()

    def note(self, place: TopicPartition, offset: int, report: Progress) -> None:
        self._reports[place].append((offset, report))

    def has_passed(self, place: TopicPartition, raw_partition: int, moment: datetime) -> bool:
        """Whether all that was received through the raw partition up to that time, and lies here, is joined."""
        self._is_asked = True
        until = self._joined.get((place, raw_partition))
        return until is not None and until >= moment

    def is_due(self) -> bool:
        """Whether somebody asked since the last look, which was some time ago."""
        is_over = self._looked_at is None or abs(self._clock() - self._looked_at) >= _LOOK_EVERY
        return self._is_asked and is_over

    async def look(self) -> None:
        """Ask how far the join is. Without an answer nothing new is known of it."""
        self._looked_at, self._is_asked = self._clock(), False
        try:
            committed = await self._committed(list(self._reports))
        except KafkaError:
            return
        for place, reports in self._reports.items():
            while reports and reports[0][0] < committed.get(place, 0):
                _, report = reports.popleft()
                for raw_partition, until in report.received_until:
                    # A later report may withdraw a time that was not plausible.
                    self._joined[place, raw_partition] = until
