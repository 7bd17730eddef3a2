"""The wall clock, for the few that may read it: processes and adapters, never the rules."""

import time
from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
# Linux stops CLOCK_MONOTONIC while the machine sleeps; macOS does not, and has no CLOCK_BOOTTIME.
_STEADY = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def now() -> datetime:
    """The time in UTC, to the millisecond, as Kafka and our records keep it."""
    moment = datetime.now(UTC)  # noqa: TID251 - the one reader of the clock
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


def uptime() -> timedelta:
    """Time that has passed since some moment, sleep included. Nobody can set it."""
    return timedelta(seconds=time.clock_gettime(_STEADY))


def from_millis(millis: int) -> datetime:
    """A time from milliseconds since 1970; exact, with no floating point on the way."""
    return _EPOCH + millis * _MILLISECOND


def to_millis(moment: datetime) -> int:
    return (moment - _EPOCH) // _MILLISECOND
