"""Request bodies, read up to a limit and no further, and within what all of a process may hold together."""

from starlette.types import Receive

# Bodies of up to so many bytes are always read: their number is bounded by that of the connections.
SMALL = 64 * 1024
# What all bodies in flight may hold beyond that.
MAX_IN_FLIGHT = 64 * 1024 * 1024

# Far beyond any limit, and few enough for Python to read as a number.
_MAX_DIGITS = 18


class BodyTooLarge(Exception):
    """The body is longer than the limit; what lies behind it was not read."""


class BodyCutShort(Exception):
    """The client hung up before the end of its body."""


class BodiesInFlight(Exception):
    """The bodies in flight take all the memory that they may; what lies behind the beginning of this was not read."""


class BodyBudget:
    """The bytes that bodies in flight may hold together, without the first `SMALL` of each."""

    def __init__(self, limit: int = MAX_IN_FLIGHT) -> None:
        self._free = limit

    def take(self, before: int, after: int) -> None:
        """A body grows from `before` bytes to `after`. Raises `BodiesInFlight`: then it does not."""
        more = max(after, SMALL) - max(before, SMALL)
        if more > self._free:
            raise BodiesInFlight
        self._free -= more

    def give_back(self, size: int) -> None:
        """A body of `size` bytes is no longer held."""
        self._free += max(size, SMALL) - SMALL


def is_encoded(value: str) -> bool:
    """Whether a Content-Encoding changes the body; `identity` is the name of none."""
    return value.strip().lower() not in {"", "identity"}


async def read_body(announced: bytes, receive: Receive, limit: int, budget: BodyBudget | None = None) -> bytes:
    """The whole body, of `limit` bytes at most, whatever Content-Length `announced` and whether it was there or not.

    Its bytes are of `budget` until the caller gives them back; a limit of no more than `SMALL` needs none.
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
