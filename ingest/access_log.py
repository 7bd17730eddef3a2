"""The access log: a receipt for each delivery that was answered 200, as a JSON line like all other log lines."""

import asyncio
import logging
from collections.abc import Callable
from datetime import timedelta
from hashlib import sha256

from ingest.keeper import Receipt
from ingest.publisher import Delivery
from runtime.clock import now

_WRITE_EVERY = timedelta(milliseconds=100)
_AGAIN_AFTER = timedelta(seconds=1)
# About 17 MB: the disk may be full for a minute of a busy process without the loss of a receipt.
MOST_WAITING = 50_000

_log = logging.getLogger(__name__)


class AccessLog:
    """Writes receipts in batches, because a log record for each costs as much as its delivery.

    `write` is `os.write` of the log: it may raise `OSError` or write a part. Up to `most` receipts wait for it, and
    further ones are lost. The receipts of an `instance` are numbered from 0, so that a gap shows a loss. No field can
    hold personal data or a secret, so nothing is redacted.
    """

    def __init__(self, write: Callable[[bytes], int], instance: str, *, most: int = MOST_WAITING) -> None:
        self._write_some = write
        self._instance = instance
        self._most = most
        self._number = 0
        self._lost = 0
        self._lines: list[str] = []
        self._is_torn = False
        self._timer: asyncio.TimerHandle | None = None
        # Why the log cannot be written; empty while it can.
        self.fault = ""

    def add(self, delivery: Delivery, receipt: Receipt) -> None:
        number = self._number
        self._number += 1
        if len(self._lines) >= self._most:
            self._lost += 1
            return
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_WRITE_EVERY.total_seconds(), self.write)
        self._lines.append(
            f'{{"time": "{delivery.received_at.isoformat(timespec="milliseconds")}", "level": "info",'
            f' "logger": "ingest.access_log", "event": "delivery.accepted", "delivery_id": "{delivery.id}",'
            f' "receipt_number": {number}, "receipt": "{receipt}", "bytes": {len(delivery.body)},'
            f' "sha256": "{sha256(delivery.body).hexdigest()}"}}\n'
        )

    def write(self) -> None:
        """Write the waiting receipts, and later again those that the log did not take."""
        self._timer = None
        if not self._write_all():
            self._timer = asyncio.get_running_loop().call_later(_AGAIN_AFTER.total_seconds(), self.write)

    def close(self) -> None:
        """Write the waiting receipts and their number, so that a loss at the end shows too."""
        if self._timer is not None:
            self._timer.cancel()
        self._lines.append(
            f'{{"time": "{now().isoformat(timespec="milliseconds")}", "level": "info", "logger": "ingest.access_log",'
            f' "event": "receipts.closed", "instance": "{self._instance}", "receipts": {self._number}}}\n'
        )
        self._write_all()

    def _write_all(self) -> bool:
        """Write the waiting receipts; False when some still wait."""
        start = b"\n" if self._is_torn else b""
        data = start + "".join(self._lines).encode()
        try:
            written = self._write_some(data)
        except OSError as error:
            if not self.fault:
                _log.error("receipts.unwritten", extra={"reason": error.strerror})
            self.fault = f"the log cannot be written: {error.strerror}"
            return False
        del self._lines[: data.count(b"\n", len(start), written)]
        if written:
            # The rest alone would join the next line of another process, so the line is written again, whole.
            self._is_torn = data[written - 1 : written] != b"\n"
        if self._lines:
            return False
        if self.fault:
            _log.warning("receipts.written_again", extra={"lost": self._lost})
        self.fault, self._lost = "", 0
        return True
