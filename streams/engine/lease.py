"""How long a member of a consumer group may still write for the partitions that it believes to own."""

from time import monotonic


class MembershipLost(Exception):
    """The group went on without this process: its partitions, and their state, belong to others now."""


class Lease:
    """Counted from when a granted heartbeat was sent, so it ends before the broker gives the partitions away.

    A process that stood still (stopped, swapped out, cut off) finds its lease run out before it can write anything.
    Times are `time.monotonic()` seconds. Any thread may call any method.
    """

    def __init__(self, term: float) -> None:
        self._term = term
        self._until: float | None = None
        self._lost = False

    def granted(self, asked_at: float) -> None:
        self._until, self._lost = asked_at + self._term, False

    def lost(self) -> None:
        self._lost = True

    def is_answered(self, at: float | None = None) -> bool:
        """Whether the group has granted a heartbeat within the term; True before the first."""
        return not self._lost and self.holds(at)

    @property
    def term(self) -> float:
        return self._term

    def holds(self, at: float | None = None) -> bool:
        """Whether writing is safe at a time (now); False asks to wait for the next heartbeat's answer.

        Raises `MembershipLost` once the group has said that this process is no member.
        """
        if self._lost:
            raise MembershipLost("the consumer group went on without this worker")
        return self._until is None or (monotonic() if at is None else at) < self._until
