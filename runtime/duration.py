"""Durations as settings and YAML files write them: a number and a unit."""

import re
from datetime import timedelta

# Nine digits of days are the most that a timedelta holds.
_DURATION = re.compile(r"([0-9]{1,9})(ms|s|m|h|d)")
_UNITS = {"ms": "milliseconds", "s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def duration_of(text: str) -> timedelta | None:
    """The duration that is written as `250ms`, `90s`, `15m`, `12h` or `30d`; None for any other text."""
    match = _DURATION.fullmatch(text)
    return timedelta(**{_UNITS[match[2]]: int(match[1])}) if match else None
