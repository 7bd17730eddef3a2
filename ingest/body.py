"""Reads request bodies within a limit for each, and within a budget for all bodies in flight of a process."""

from starlette.types import Receive

# Bodies up to this size are always read: the limit of connections bounds their number.
SMALL = 64 * 1024
# The budget of all bodies in flight for the bytes beyond that.
MAX_IN_FLIGHT = 64 * 1024 * 1024

# Larger than any limit, and small enough for Python to parse.
_MAX_DIGITS = 18


class BodyTooLarge(Exception):
    """The body is longer than the limit; the rest was not read."""


class BodyCutShort(Exception):
    """The client closed the connection before the end of its body."""


class BodiesInFlight(Exception):
    """The budget is used up by bodies in flight; the rest of this body was not read."""


class BodyBudget:
    """The bytes that all bodies in flight may hold, beyond the first `SMALL` of each."""

    def __init__(self, limit: int = MAX_IN_FLIGHT) -> None:
        self._free = limit

    def take(self, before: int, after: int) -> None:
        """Let a body grow from `before` bytes to `after`. Raises `BodiesInFlight`: then it may not."""
        more = max(after, SMALL) - max(before, SMALL)
        if more > self._free:
            raise BodiesInFlight
        self._free -= more

    def give_back(self, size: int) -> None:
        """Return the bytes of a body of `size` bytes."""
        self._free += max(size, SMALL) - SMALL


def is_encoded(value: str) -> bool:
    """Whether a Content-Encoding changes the body; `identity` does not."""
    return value.strip().lower() not in {"", "identity"}


async def read_body(announced: bytes, receive: Receive, limit: int, budget: BodyBudget | None = None) -> bytes:
    """Read the whole body, of at most `limit` bytes. `announced` is the Content-Length, which may be wrong or empty.

    The caller gives the bytes back to `budget`; a limit up to `SMALL` needs no budget. Raises `BodyTooLarge`,
    `BodyCutShort` or `BodiesInFlight`, and then has given them back.
    """
    if announced.isdigit() and (len(announced) > _MAX_DIGITS or int(announced) > limit):
        raise BodyTooLarge
    chunks: list[bytes] = []
    size = 0
    more = True
    try:
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise BodyCutShort
            chunk = message.get("body", b"")
            grown = size + len(chunk)
            if grown > limit:
                raise BodyTooLarge
            if budget is not None and grown > SMALL:
                budget.take(size, grown)
            size = grown
            chunks.append(chunk)
            more = message.get("more_body", False)
    except BaseException:
        if budget is not None:
            budget.give_back(size)
        raise
    return b"".join(chunks)
