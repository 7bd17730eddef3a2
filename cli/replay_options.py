"""Places of the raw topic, times, durations and names, as they are written on the command line."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import click

from streams.replay.plan import Offset, Place

_OFFSET = re.compile(r"(?:(?P<partition>\d{1,9}):)?(?P<number>\d{1,18})")
_DURATION = re.compile(r"(?P<count>\d{1,6})(?P<unit>[smhd])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
# Kafka allows 249 characters, and the longest topic's name and a prefix go in front.
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")


class PlaceType(click.ParamType):
    """An offset (`0`), an offset of one partition (`3:1200`), or a time in UTC unless it says otherwise."""

    name = "offset|time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Place:
        if found := _OFFSET.fullmatch(value):
            return Offset(int(found["number"]), int(found["partition"]) if found["partition"] else None)
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            self.fail(f"{value!r} is no offset (0, 3:1200) and no time (2026-03-02T12:00)", param, ctx)
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return moment.astimezone(UTC).replace(microsecond=moment.microsecond // 1000 * 1000)


class TimeType(PlaceType):
    """A time in UTC unless it says otherwise."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        place = value if isinstance(value, datetime) else super().convert(value, param, ctx)
        if not isinstance(place, datetime):
            self.fail("a time is wanted here, such as 2026-03-02T12:00", param, ctx)
        return place


class DurationType(click.ParamType):
    """A whole number of seconds, minutes, hours or days: 90s, 15m, 2h, 30d."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        if isinstance(value, timedelta):
            return value
        found = _DURATION.fullmatch(value)
        if found is None:
            self.fail(f"{value!r} is no duration (90s, 15m, 2h, 30d)", param, ctx)
        return timedelta(**{_UNITS[found["unit"]]: int(found["count"])})


class ReplayName(click.ParamType):
    """What a replay is called; it becomes part of topic names."""

    name = "name"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not _NAME.fullmatch(value):
            self.fail(f"{value!r}: lower-case letters, digits and dashes only, up to 63", param, ctx)
        return str(value)
