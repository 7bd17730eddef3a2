"""Request bodies, read up to a limit and no further."""

from starlette.datastructures import Headers
from starlette.types import Receive


class BodyTooLarge(Exception):
    """The body is longer than the limit; what lies behind it was not read."""


class BodyCutShort(Exception):
    """The client hung up before the end of its body."""


async def read_body(headers: Headers, receive: Receive, limit: int) -> bytes:
    """The whole body, of `limit` bytes at most, whether its length was announced or not."""
    announced = headers.get("content-length", "")
    if announced.isdigit() and int(announced) > limit:
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
