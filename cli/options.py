"""Types of option values, and options that several commands share."""

import re
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import click

from runtime.duration import duration_of
from streams.replay.plan import Offset, Place

_Command = TypeVar("_Command", bound=Callable[..., Any])

_OFFSET = re.compile(r"(?:(?P<partition>\d{1,9}):)?(?P<number>\d{1,18})")
# Kafka allows 249 characters, and the longest topic's name and a prefix go in front.
_REPLAY_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")


class IdType(click.ParamType):
    """One of Meta's ids; "-" reads it from stdin, because the shell keeps a history of its command lines."""

    name = "ID"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if value == "-":
            value = sys.stdin.readline().strip()
        if not (value.isascii() and value.isdigit()):
            # The value itself is about a person.
            self.fail("an id has digits only", param, ctx)
        return value


class PlaceType(click.ParamType):
    """An offset (`0`), an offset of one partition (`3:1200`), or a time, in UTC unless it says otherwise."""

    name = "offset|time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Place:
        if offset := _OFFSET.fullmatch(value):
            return Offset(int(offset["number"]), int(offset["partition"]) if offset["partition"] else None)
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            self.fail(f"{value!r} is no offset (0, 3:1200) and no time (2026-03-02T12:00)", param, ctx)
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return moment.astimezone(UTC).replace(microsecond=moment.microsecond // 1000 * 1000)


class TimeType(PlaceType):
    """A time, in UTC unless it says otherwise."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        place = super().convert(value, param, ctx)
        if not isinstance(place, datetime):
            self.fail("expected a time such as 2026-03-02T12:00", param, ctx)
        return place


class DurationType(click.ParamType):
    """A whole number of seconds, minutes, hours or days: 90s, 15m, 2h, 30d."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        if isinstance(value, timedelta):
            return value
        duration = duration_of(value)
        if duration is None:
            self.fail(f"{value!r} is no duration (90s, 15m, 2h, 30d)", param, ctx)
        return duration


class ReplayName(click.ParamType):
    """The name of a replay, which becomes part of topic names."""

    name = "name"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not _REPLAY_NAME.fullmatch(value):
            self.fail(f"{value!r}: lower-case letters, digits and dashes only, up to 63", param, ctx)
        return str(value)


def options(*decorators: Callable[[_Command], _Command]) -> Callable[[_Command], _Command]:
    """Several options as one decorator; help lists them in this order."""

    def decorate(command: _Command) -> _Command:
        for option in reversed(decorators):
            command = option(command)
        return command

    return decorate


def admin_port(default: str, *, label: str = "Port of health and metrics.") -> Callable[[_Command], _Command]:
    """`--admin-port`, with the setting that it has by default."""
    return click.option("--admin-port", type=click.IntRange(0, 65535), help=f"{label}  [default: {default}]")


def stages(label: str) -> Callable[[_Command], _Command]:
    """`--stage NAME=URL`, several times: the admin ports of stages, by name."""
    return click.option("--stage", "stages", multiple=True, callback=_stages, metavar="NAME=URL", help=label)


def _stages(_context: click.Context, _option: click.Parameter, texts: Sequence[str]) -> dict[str, str]:
    stages = {}
    for text in texts:
        name, _, url = text.partition("=")
        if not name or not url.startswith(("http://", "https://")):
            raise click.BadParameter(f"expected NAME=URL such as ingest=http://ingest:8001, not {text!r}")
        stages[name] = url.rstrip("/")
    return stages


def as_json(label: str = "Print JSON for programs.") -> Callable[[_Command], _Command]:
    """`--json`."""
    return click.option("--json", "as_json", is_flag=True, help=label)


page = click.option("--page", type=IdType(), help="Only this Page.")
show_pii = click.option("--show-pii", is_flag=True, help="Show PSIDs and answers.")
yes = click.option("--yes", is_flag=True, help="Do not ask.")
skip = click.option(
    "--skip",
    multiple=True,
    metavar="TOPIC:PARTITION:OFFSET",
    help="A record to set aside as a dead letter, unread.",
)
accept_loss = click.option(
    "--accept-loss",
    multiple=True,
    metavar="TOPIC[:PARTITION:OFFSET]",
    help="Go on without records that are lost, or with a topic made anew, as the stage named it when it stopped.",
)
