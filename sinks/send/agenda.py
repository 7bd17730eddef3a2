"""Commands that wait for their time: one at a time for each person, and no person waits for another."""

import heapq
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from itertools import count

from leads.records import SendFollowUp
from messenger.events import person_key
from sinks.send.lookahead import Horizon


@dataclass(slots=True, eq=False)
class Pending:
    """A command that is not settled yet. Only this module writes to it.

    `ready_at` is when to decide about it next; `refuted` the last attempt that is known not to have arrived;
    `failures` counts the failed calls in a row; `paced` says that `ready_at` is a turn given by the rate limit;
    `recalled` that a webhook brought news of it since it was begun; `cancelled_by` is the offset of the event that
    cancelled it; `horizon` is how far must be read before it is sent.
    """

    partition: int
    offset: int
    command: SendFollowUp
    ready_at: datetime
    cancel_reason: str | None = None
    refuted: int = 0
    failures: int = 0
    paced: bool = False
    recalled: bool = False
    cancelled_by: int | None = None
    horizon: Horizon | None = None

    @property
    def person(self) -> str:
        return person_key(self.command.page_id, self.command.psid)

    def __lt__(self, other: "Pending") -> bool:
        return (self.ready_at, self.offset) < (other.ready_at, other.offset)

    def take_turn(self) -> None:
        """The rate limit gave it a turn, which is kept until the call."""
        self.paced = True

    def use_turn(self) -> None:
        """The turn is over, with or without a call."""
        self.paced = False

    def begin(self) -> None:
        """Everything that webhooks said until now is taken into account."""
        self.recalled = False

    def recall(self, now: datetime) -> None:
        """There is news: decide at once."""
        self.recalled, self.ready_at = True, min(self.ready_at, now)

    def refute(self, attempt: int) -> None:
        """This attempt reached no person."""
        self.refuted = attempt

    def count_failure(self) -> int:
        """One more call failed; gives how many in a row."""
        self.failures += 1
        return self.failures

    def end_failures(self) -> None:
        self.failures = 0

    def require(self, horizon: Horizon) -> None:
        """Everything up to here must be read before it is sent."""
        self.horizon = horizon

    def cancel(self, reason: str, now: datetime, by: int | None = None) -> None:
        """The first reason stays; `by` is the offset of the event that gave it."""
        if self.cancel_reason is None:
            self.cancel_reason, self.cancelled_by = reason, by
        self.ready_at = min(self.ready_at, now)

    def erase(self, reason: str, now: datetime, by: int) -> None:
        """Cancel it for this reason, whatever cancelled it before."""
        self.cancel_reason, self.cancelled_by, self.ready_at = reason, by, min(self.ready_at, now)


@dataclass(slots=True)
class _Lane:
    """One person's commands. `current` was begun; the others wait until it is settled."""

    waiting: list[Pending] = field(default_factory=list)
    current: Pending | None = None
    running: bool = False

    def next(self) -> Pending | None:
        return self.current or (self.waiting[0] if self.waiting else None)

    def commands(self) -> list[Pending]:
        return [*self.waiting, *filter(None, [self.current])]


class _Offsets:
    """Offsets begun and not finished, of one partition."""

    def __init__(self) -> None:
        self._begun: list[int] = []
        self._finished: set[int] = set()

    def __len__(self) -> int:
        return len(self._begun) - len(self._finished)

    def begin(self, offset: int) -> None:
        heapq.heappush(self._begun, offset)

    def finish(self, offset: int) -> None:
        self._finished.add(offset)
        while self._begun and self._begun[0] in self._finished:
            self._finished.discard(heapq.heappop(self._begun))

    def lowest(self) -> int | None:
        return self._begun[0] if self._begun else None


class Agenda:
    """Says which commands are due, at most one for each person at a time."""

    def __init__(self) -> None:
        self._lanes: dict[str, _Lane] = defaultdict(_Lane)
        self._wakes: list[tuple[datetime, int, str]] = []
        self._order = count()
        self._offsets: dict[int, _Offsets] = defaultdict(_Offsets)
        self._cancelled: set[Pending] = set()

    def add(self, pending: Pending) -> None:
        self._offsets[pending.partition].begin(pending.offset)
        lane = self._lanes[pending.person]
        heapq.heappush(lane.waiting, pending)
        self._wake(lane)

    def due(self, now: datetime) -> Iterator[Pending]:
        """The commands to decide about now; the caller then postpones or finishes each."""
        while self._wakes and self._wakes[0][0] <= now:
            _, _, person = heapq.heappop(self._wakes)
            lane = self._lanes.get(person)
            pending = lane.next() if lane is not None and not lane.running else None
            if lane is None or pending is None or pending.ready_at > now:
                continue
            if lane.current is None:
                lane.current = heapq.heappop(lane.waiting)
            lane.running = True
            yield pending

    def postpone(self, pending: Pending, until: datetime) -> None:
        """Decide about it again at `until`, before the person's other commands."""
        pending.ready_at = until
        lane = self._lanes[pending.person]
        lane.running = False
        self._wake(lane)

    def recall(self, person: str, now: datetime) -> None:
        """Decide at once about the command that was begun for this person."""
        lane = self._lanes.get(person)
        if lane is not None and lane.current is not None:
            lane.current.recall(now)
            self._wake(lane)

    def cancel(self, by: SendFollowUp, now: datetime) -> bool:
        """Cancel the command that this record cancels, so that it is due at once; whether it waits here."""
        lane = self._lanes.get(person_key(by.page_id, by.psid))
        cancelled = [pending for pending in _commands(lane) if pending.command.command_id == by.command_id]
        for pending in cancelled:
            pending.cancel(by.cancel_reason or "", now)
            self._reorder(lane)
        return bool(cancelled)

    def cancel_by(
        self, person: str, cancels: Callable[[SendFollowUp], str | None], *, offset: int, now: datetime
    ) -> None:
        """Cancel the person's commands that the event at `offset` cancels: `cancels` gives the reason."""
        lane = self._lanes.get(person)
        for pending in _commands(lane):
            reason = cancels(pending.command)
            if reason is not None and pending.cancel_reason is None:
                pending.cancel(reason, now, by=offset)
                self._cancelled.add(pending)
                self._reorder(lane)

    def people_of(self, page_id: str, partition: int) -> list[str]:
        """The people of a Page for whom a command of this partition waits."""
        of_page = [(person, lane) for person, lane in self._lanes.items() if person.startswith(person_key(page_id, ""))]
        return [
            person for person, lane in of_page if any(pending.partition == partition for pending in lane.commands())
        ]

    def erase(self, person: str, until: datetime, reason: str, *, offset: int, now: datetime) -> None:
        """The event at `offset` ends all commands of the person that were made up to `until`."""
        lane = self._lanes.get(person)
        for pending in _commands(lane):
            if pending.command.created_at <= until:
                pending.erase(reason, now, by=offset)
                self._cancelled.add(pending)
        self._reorder(lane)

    def finish(self, pending: Pending) -> None:
        self._cancelled.discard(pending)
        self._offsets[pending.partition].finish(pending.offset)
        lane = self._lanes[pending.person]
        lane.current, lane.running = None, False
        if lane.waiting:
            self._wake(lane)
        else:
            del self._lanes[pending.person]

    def unfinished(self) -> Mapping[int, int]:
        """The lowest offset that is not finished, by partition."""
        lowest = {partition: offsets.lowest() for partition, offsets in self._offsets.items()}
        return {partition: offset for partition, offset in lowest.items() if offset is not None}

    def unfinished_events(self) -> Mapping[int, int]:
        """The lowest offset, by partition, of an event that cancelled an unfinished command."""
        lowest: dict[int, int] = {}
        for pending in self._cancelled:
            if pending.cancelled_by is not None:
                lowest[pending.partition] = min(
                    pending.cancelled_by, lowest.get(pending.partition, pending.cancelled_by)
                )
        return lowest

    def held(self, partition: int) -> int:
        return len(self._offsets[partition])

    def _reorder(self, lane: _Lane | None) -> None:
        if lane is not None:
            heapq.heapify(lane.waiting)
            self._wake(lane)

    def _wake(self, lane: _Lane) -> None:
        pending = lane.next()
        if pending is not None and not lane.running:
            heapq.heappush(self._wakes, (pending.ready_at, next(self._order), pending.person))


def _commands(lane: _Lane | None) -> list[Pending]:
    return lane.commands() if lane is not None else []
