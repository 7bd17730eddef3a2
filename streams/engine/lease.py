"""Fencing: how long a member of a consumer group may still write for the partitions that it believes to own."""

from time import monotonic


class MembershipLost(Exception):
    """The group has removed this process: its partitions, and their state, belong to other members."""


class Lease:
    """The right to write, for one session timeout from when a granted heartbeat was sent.

    So it ends before the broker gives the partitions to another member. The consumer's thread calls `granted` and
    `lost` at each answer of the coordinator; the producer asks `holds` before each produce request. A process that
    stood still (stopped, swapped out, cut off) finds its lease expired before it can write. `lost` stays until the next
    `granted`. Times are `time.monotonic()` seconds. No method waits, and any thread may call any of them.
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
        """Whether writing is safe at a time (now); True before the first heartbeat. After False, wait for the answer to
        the next heartbeat.

        Raises `MembershipLost` once the coordinator has answered that this process is no member.
        """
        if self._lost:
            raise MembershipLost("the consumer group went on without this worker")
        return self._until is None or (monotonic() if at is None else at) < self._until
