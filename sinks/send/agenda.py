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
from sinks.send.reasons import ERASED


@dataclass(slots=True, eq=False)
class Pending:
    """A command that is not settled yet. Only this module writes to it.

    `ready_at` is when to decide about it next; `refuted` the last attempt that is known not to have arrived;
    `failures` counts the failed calls in a row; `paced` says that `ready_at` is a turn given by the rate limit;
    `recalled` that a webhook brought news of it since it was begun; `horizon` is how far must be read before it is
    sent; `trace` is the span in which it was read.
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
    horizon: Horizon | None = None
    trace: bytes | None = None

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

    def cancel(self, reason: str, now: datetime) -> None:
        """Decide at once. The first reason stays, unless the person is erased."""
        if self.cancel_reason is None or reason == ERASED:
            self.cancel_reason, self.ready_at = reason, min(self.ready_at, now)


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


class Agenda:
    """Says which commands are due, at most one for each person at a time."""

    def __init__(self) -> None:
        self._lanes: dict[str, _Lane] = defaultdict(_Lane)
        self._wakes: list[tuple[datetime, int, str]] = []
        self._order = count()
        self._unfinished: dict[int, set[int]] = defaultdict(set)
        self._cancelled_by: dict[Pending, int] = {}

    def add(self, pending: Pending) -> None:
        self._unfinished[pending.partition].add(pending.offset)
        lane = self._lanes[pending.person]
        heapq.heappush(lane.waiting, pending)
        self._wake(lane)

    def due(self, now: datetime) -> Iterator[Pending]:
        """The commands to decide about now; the caller then postpones or finishes each."""
        while self._wakes and self._wakes[0][0] <= now:
            _, _, person = heapq.heappop(self._wakes)
            lane = self._lane(person)
            pending = lane.next()
            if lane.running or pending is None or pending.ready_at > now:
                continue
            if lane.current is None:
                lane.current = heapq.heappop(lane.waiting)
            lane.running = True
            yield pending

    def postpone(self, pending: Pending, until: datetime, *, lets_pass: bool = False) -> None:
        """Decide about it again at `until`, and before the person's other commands.

        Where it `lets_pass`, those go meanwhile, unless one of them is the next step of its course.
        """
        pending.ready_at = until
        lane = self._lanes[pending.person]
        lane.running = False
        if lets_pass and all(other.command.follows != pending.command.command_id for other in lane.waiting):
            lane.current = None
            heapq.heappush(lane.waiting, pending)
        self._wake(lane)

    def recall(self, person: str, now: datetime) -> None:
        """Decide at once about the command that was begun for this person."""
        lane = self._lane(person)
        if lane.current is not None:
            lane.current.recall(now)
            self._wake(lane)

    def cancel(
        self, person: str, why: Callable[[SendFollowUp], str | None], now: datetime, *, by: int | None = None
    ) -> bool:
        """Cancel the person's commands for which `why` gives a reason, so that they are due at once.

        Those that stay are sent only after another look ahead, because what came of the person may be a stop word.
        `by` is the offset of the event that cancels them. Returns whether there is any, cancelled before or now.
        """
        lane = self._lane(person)
        for pending in lane.commands():
            pending.horizon = None
        cancelled = [(pending, reason) for pending in lane.commands() if (reason := why(pending.command)) is not None]
        for pending, reason in cancelled:
            pending.cancel(reason, now)
            if by is not None:
                self._cancelled_by.setdefault(pending, by)
        if cancelled:
            heapq.heapify(lane.waiting)
            self._wake(lane)
        return bool(cancelled)

    def commands_of(self, person: str) -> list[SendFollowUp]:
        """The person's commands that are not finished."""
        return [pending.command for pending in self._lane(person).commands()]

    def people_of(self, page_id: str, partition: int) -> list[str]:
        """The people of a Page for whom a command of this partition waits."""
        return [
            person
            for person, lane in self._lanes.items()
            if any((held.command.page_id, held.partition) == (page_id, partition) for held in lane.commands())
        ]

    def finish(self, pending: Pending) -> None:
        self._cancelled_by.pop(pending, None)
        self._unfinished[pending.partition].remove(pending.offset)
        lane = self._lanes[pending.person]
        lane.current, lane.running = None, False
        if lane.waiting:
            self._wake(lane)
        else:
            del self._lanes[pending.person]

    def unfinished(self) -> Mapping[int, int]:
        """The lowest offset that is not finished, by partition."""
        return {partition: min(offsets) for partition, offsets in self._unfinished.items() if offsets}

    def unfinished_events(self) -> Mapping[int, int]:
        """The lowest offset, by partition, of an event that cancelled an unfinished command."""
        lowest: dict[int, int] = {}
        for pending, offset in self._cancelled_by.items():
            lowest[pending.partition] = min(offset, lowest.get(pending.partition, offset))
        return lowest

    def command_ids(self) -> set[str]:
        """The ids of all commands that are not finished."""
        return {pending.command.command_id for pending in self.waiting()}

    def waiting(self) -> Iterator[Pending]:
        """All commands that are not finished."""
        return (pending for lane in self._lanes.values() for pending in lane.commands())

    def held(self, partition: int) -> int:
        return len(self._unfinished[partition])

    def _lane(self, person: str) -> _Lane:
        """The lane of a person, an empty one for a person without commands."""
        return self._lanes.get(person) or _Lane()

    def _wake(self, lane: _Lane) -> None:
        pending = lane.next()
        if pending is not None and not lane.running:
            heapq.heappush(self._wakes, (pending.ready_at, next(self._order), pending.person))
