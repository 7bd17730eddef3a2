"""What may be committed of one partition: the longest finished prefix of its deliveries."""

from collections import deque


class DeliveryOrder:
    """The deliveries of one partition, oldest first; each is named by the last offset that it covers.

    Offsets are compared, never counted: logs have gaps (transaction markers, compaction) and batches have any size.
    """

    def __init__(self) -> None:
        self._unfinished: deque[int] = deque()
        self._finished_early: set[int] = set()
        self._committable: int | None = None

    def delivered(self, last_offset: int) -> None:
        """Note a delivery before it is made. Raises `ValueError` if it is not after all that were made so far."""
        if self._unfinished and last_offset <= self._unfinished[-1]:
            raise ValueError(f"offset {last_offset} is delivered after {self._unfinished[-1]}")
        self._unfinished.append(last_offset)

    def finished(self, last_offset: int) -> None:
        """Note that a delivery is done with; one that is unknown belongs to an assignment of the past."""
        if last_offset not in self._unfinished:
            return
        self._finished_early.add(last_offset)
        while self._unfinished and self._unfinished[0] in self._finished_early:
            oldest = self._unfinished.popleft()
            self._finished_early.discard(oldest)
            self._committable = oldest + 1

    @property
    def waiting(self) -> int:
        """How many deliveries nothing may be committed past, or are such themselves."""
        return len(self._unfinished)

    @property
    def committable(self) -> int | None:
        """The offset to commit, which is where to resume; None while the oldest delivery is unfinished."""
        return self._committable
