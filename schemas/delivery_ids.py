"""The id of a delivery: the process that received it, when, and its number there, so that an id says where to look."""

import re
from datetime import UTC, datetime

DELIVERY_ID = re.compile(r"[0-9a-f]{32}")
_INSTANCE, _SECONDS = 16, 8
_MOST = 16**_SECONDS - 1


def delivery_id(instance: str, at: datetime, number: int) -> str:
    """The id of the delivery with this number that a process received at `at`. `instance` has 16 hexadecimal digits."""
    return f"{instance}{int(at.timestamp()) & _MOST:08x}{number & _MOST:08x}"


def received_about(identity: str) -> datetime:
    """The second in which a delivery was received; of an id that was made up, any time."""
    return datetime.fromtimestamp(int(identity[_INSTANCE : _INSTANCE + _SECONDS], 16), UTC)
