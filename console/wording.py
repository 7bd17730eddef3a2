"""Numbers, times and lengths of time as people read them; the filters of the templates."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from operations.explain.timeline import Moment

NOTHING = "—"
_UNITS = ((86_400, "d"), (3600, "h"), (60, "min"), (1, "s"))


def number(value: float) -> str:
    """12,345."""
    return f"{value:,.0f}"


def share(part: int, whole: int) -> str:
    """A share in whole per cent, and no more digits than that; nothing where there is no whole."""
    return NOTHING if not whole else f"{100 * part / whole:.0f} %"


def percent(part: float | None) -> str:
    return NOTHING if part is None else f"{100 * part:.0f} %"


def span(length: timedelta | float | None) -> str:
    """A length of time in its two largest units: 3 d 4 h, 12 min 5 s, 0.4 s."""
    if length is None:
        return NOTHING
    seconds = length.total_seconds() if isinstance(length, timedelta) else float(length)
    if seconds < 10:
        return f"{max(seconds, 0):.1f} s"
    parts: list[str] = []
    left = round(seconds)
    for size, unit in _UNITS:
        if left >= size or parts:
            parts.append(f"{left // size} {unit}")
            left %= size
        if len(parts) == 2:
            break
    return " ".join(part for part in parts if not part.startswith("0 "))


def clock(moment: datetime | None) -> str:
    """A moment in UTC to the second."""
    return NOTHING if moment is None else f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S}"


def since(moment: datetime, at: datetime) -> str:
    """How long ago, in the largest unit."""
    length = at - moment
    if length < timedelta(seconds=10):
        return "moments"
    return " ".join(span(length).split()[:2])


def plural(count: int, word: str, many: str | None = None) -> str:
    """1 lead, 2 leads."""
    return f"{number(count)} {word if count == 1 else many or word + 's'}"


def words(code: str) -> str:
    """A code as words."""
    return code.replace("_", " ")


def tone(status: str) -> str:
    """How the status of a follow-up is coloured."""
    return _TONES.get(status, "idle")


def moment_tone(moment: Moment) -> str:
    """How a moment of a timeline is coloured: an outcome with a reason is none that was hoped for."""
    return "warn" if moment.kind == "outcome" and moment.reason else _KIND_TONES.get(moment.kind, "idle")


_TONES = {
    **dict.fromkeys(("sent", "delivered", "read"), "ok"),
    **dict.fromkeys(("in_doubt", "parked", "attempting", "cancelled", "expired"), "warn"),
    "rejected": "bad",
}
_KIND_TONES = {
    **dict.fromkeys(("outcome", "echo", "delivery", "read", "reply", "revision"), "ok"),
    **dict.fromkeys(("withheld", "cancelled", "ignored", "opt_out"), "warn"),
    **dict.fromkeys(("dead_letter", "erased"), "bad"),
}
FILTERS: Mapping[str, Callable[..., Any]] = {
    "number": number,
    "span": span,
    "clock": clock,
    "since": since,
    "plural": plural,
    "share": share,
    "percent": percent,
    "words": words,
    "tone": tone,
    "moment_tone": moment_tone,
}
