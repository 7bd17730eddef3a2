"""Request bodies, read up to a limit and no further."""

from starlette.types import Receive

# Far beyond any limit, and few enough for Python to read as a number.
_MAX_DIGITS = 18


class BodyTooLarge(Exception):
    """The body is longer than the limit; what lies behind it was not read."""


class BodyCutShort(Exception):
    """The client hung up before the end of its body."""


async def read_body(announced: bytes, receive: Receive, limit: int) -> bytes:
    """The whole body, of `limit` bytes at most, whatever Content-Length `announced` and whether it was there or not."""
    if announced.isdigit() and (len(announced) > _MAX_DIGITS or int(announced) > limit):
        raise BodyTooLarge
    chunks = []
    size = 0
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise BodyCutShort
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > limit:
            raise BodyTooLarge
        chunks.append(chunk)
        more = message.get("more_body", False)
    return b"".join(chunks)
