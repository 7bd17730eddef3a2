"""The access log: a JSON line for each delivery that was answered 200, in the shape of all other lines."""

import asyncio
from datetime import timedelta
from hashlib import sha256
from typing import TextIO

from ingest.keeper import Receipt
from ingest.publisher import Delivery

_WRITE_EVERY = timedelta(milliseconds=100)


class AccessLog:
    """Writes lines a few at a time, since a log record for each would cost as much as the delivery itself.

    No field can hold what a person or a secret says, so that there is nothing to redact.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lines: list[str] = []

    def note(self, delivery: Delivery, receipt: Receipt) -> None:
        if not self._lines:
            asyncio.get_running_loop().call_later(_WRITE_EVERY.total_seconds(), self.write)
        self._lines.append(
            f'{{"time": "{delivery.received_at.isoformat(timespec="milliseconds")}", "level": "info",'
            f' "logger": "ingest.access_log", "event": "delivery.accepted", "delivery_id": "{delivery.id}",'
            f' "receipt": "{receipt}", "bytes": {len(delivery.body)},'
            f' "sha256": "{sha256(delivery.body).hexdigest()}"}}\n'
        )

    def write(self) -> None:
        """Write what waits."""
        self._stream.write("".join(self._lines))
        self._stream.flush()
        self._lines.clear()
