"""The offset that may be committed of one partition: the end of the longest finished prefix of its deliveries."""

from collections import deque


class DeliveryOrder:
    """The deliveries of one partition, oldest first; each is named by the last offset that it covers.

    The transport calls `delivered` before an agent gets a batch and `finished` when the agent asks for the next one, in
    any order of batches. `committable` never passes an unfinished delivery. One object serves one assignment: after a
    rebalance the transport makes a new one. No method waits.
    Offsets are compared, never counted: logs have gaps (transaction markers, compaction) and batches have any size.
    """

    def __init__(self) -> None:
        self._unfinished: deque[int] = deque()
        self._finished_early: set[int] = set()
        self._committable: int | None = None

    def delivered(self, last_offset: int) -> None:
        """Add a delivery that is about to be made. Raises `ValueError` unless its offset is the highest so far."""
        if self._unfinished and last_offset <= self._unfinished[-1]:
            raise ValueError(f"offset {last_offset} is delivered after {self._unfinished[-1]}")
        self._unfinished.append(last_offset)

    def finished(self, last_offset: int) -> None:
        """Mark a delivery as finished; an unknown one belongs to a past assignment and is ignored."""
        if last_offset not in self._unfinished:
            return
        self._finished_early.add(last_offset)
        while self._unfinished and self._unfinished[0] in self._finished_early:
            oldest = self._unfinished.popleft()
            self._finished_early.discard(oldest)
            self._committable = oldest + 1

    @property
    def waiting(self) -> int:
        """How many deliveries hold the commit back: unfinished ones, and finished ones behind them."""
        return len(self._unfinished)

    @property
    def committable(self) -> int | None:
        """The offset to commit, which is where to resume; None until the oldest delivery is finished."""
        return self._committable
