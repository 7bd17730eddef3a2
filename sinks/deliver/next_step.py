"""Decides after an answer: a delivery is done, comes again later, or is given up, and how a destination fares."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from sinks.deliver.client import CALL_TIMEOUT, Answer

# As the specification has them, with more steps in the first minutes: three days and some hours in all.
SCHEDULE = tuple(
    timedelta(seconds=seconds) for seconds in (5, 30, 120, 600, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400)
)
_GONE, _NOT_FOUND, _TOO_MANY, _UNAVAILABLE = 410, 404, 429, 503


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliverLimits:
    """How often, how fast and how much a destination is tried.

    After `failing_after` failures in a row, of whichever deliveries, it is tried with one call at a time, after pauses
    that grow from `first_pause` to `longest_pause`; these tries do not count against the `schedule`. While so many
    deliveries of a partition are held, or as many bytes, no more of it is read.
    """

    schedule: tuple[timedelta, ...] = SCHEDULE
    failing_after: int = 10
    first_pause: timedelta = timedelta(seconds=1)
    longest_pause: timedelta = timedelta(minutes=15)
    longest_wait: timedelta = timedelta(days=1)
    concurrent_calls: int = 8
    held_per_partition: int = 500
    held_bytes: int = 8 * 1024 * 1024
    call_timeout: timedelta = CALL_TIMEOUT


@dataclass(slots=True)
class Fortune:
    """How a destination fares, as this process sees it; pure but for its own fields.

    `failing_since` is the first failure since the last success, None without one. No call is made before `held_until`.
    """

    limits: DeliverLimits
    fraction: Callable[[], float]
    failing_since: datetime | None = None
    failures: int = 0
    held_until: datetime | None = None

    @property
    def is_failing(self) -> bool:
        return self.failures >= self.limits.failing_after

    def may_call(self, now: datetime, under_way: int) -> bool:
        """Whether one more call may begin."""
        most = 1 if self.is_failing else self.limits.concurrent_calls
        return under_way < most and (self.held_until is None or self.held_until <= now)

    def succeed(self) -> bool:
        """Note a success; whether it ends a time of failing."""
        was_failing = self.is_failing
        self.failing_since, self.failures = None, 0
        if was_failing:
            self.held_until = None
        return was_failing

    def fail(self, answer: Answer, now: datetime) -> None:
        """Note a failure, and how long to leave the destination alone."""
        self.failing_since = self.failing_since or now
        self.failures += 1
        pause = timedelta(0)
        if self.is_failing:
            doublings = min(self.failures - self.limits.failing_after, 20)
            pause = _jittered(min(self.limits.first_pause * (1 << doublings), self.limits.longest_pause), self.fraction)
        if answer.status in (_TOO_MANY, _UNAVAILABLE):
            pause = max(pause, self._asked(answer))
        if pause:
            self.held_until = max(now + pause, self.held_until or now)

    def tries_the_same(self) -> bool:
        """Whether a delivery that has failed comes before the others at a destination that is failing.

        By turns, because either it or all the others may be what the destination refuses.
        """
        return self.is_failing and self.fraction() < 1 / 2

    def again_after(self, attempts: int, answer: Answer) -> timedelta | None:
        """When to try a delivery again that has failed so many times; None when its schedule is used up."""
        if self.is_failing:
            return self._asked(answer)
        if attempts > len(self.limits.schedule):
            return None
        return max(_jittered(self.limits.schedule[attempts - 1], self.fraction), self._asked(answer))

    def _asked(self, answer: Answer) -> timedelta:
        return min(answer.retry_after or timedelta(0), self.limits.longest_wait)


def _jittered(pause: timedelta, fraction: Callable[[], float]) -> timedelta:
    """Between three quarters and five quarters of it."""
    return pause * (0.75 + fraction() / 2)


Verdict = Literal["delivered", "gone", "failure"]


def verdict_of(answer: Answer, *, is_erasure: bool) -> Verdict:
    """A destination that does not know the lead has erased it."""
    if answer.is_success or (is_erasure and answer.status == _NOT_FOUND):
        return "delivered"
    return "gone" if answer.status == _GONE else "failure"
