"""Repeated log lines: written a few times in a minute, then counted."""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TextIO

_MOST = 3
_SECONDS = 60.0


@dataclass(slots=True)
class _Run:
    """A line's first record in the span, how often it came, and how often it was left out."""

    first: logging.LogRecord
    written: int = 0
    left_out: int = 0


class LimitedHandler(logging.StreamHandler[TextIO]):
    """Writes at most three of the same line in a minute, and after the minute one line with the count of the others.

    Lines are the same when `identify` gives equal texts for them. The count is written with the next line of any kind,
    or when the handler is closed.
    """

    def __init__(self, stream: TextIO, identify: Callable[[logging.LogRecord], str]) -> None:
        super().__init__(stream)
        self._identify = identify
        self._runs: dict[str, _Run] = {}

    def emit(self, record: logging.LogRecord) -> None:
        for counted in self._ended(record.created - _SECONDS):
            super().emit(counted)
        try:
            line = self._identify(record)
        except (TypeError, ValueError):
            self.handleError(record)  # as `logging` does with arguments that do not fit their message
            return
        run = self._runs.setdefault(line, _Run(record))
        if run.written < _MOST:
            run.written += 1
            super().emit(record)
        else:
            run.left_out += 1

    def close(self) -> None:
        for counted in self._ended(float("inf")):
            super().emit(counted)
        super().close()

    def _ended(self, began_by: float) -> Iterator[logging.LogRecord]:
        # A dict keeps the order of their first records.
        for line, run in list(self._runs.items()):
            if run.first.created > began_by:
                return
            del self._runs[line]
            if run.left_out:
                yield _count(run)


def _count(run: _Run) -> logging.LogRecord:
    fields = {"of": run.first.getMessage(), "count": run.left_out, "seconds": _SECONDS}
    source = {"name": run.first.name, "levelno": run.first.levelno, "levelname": run.first.levelname}
    return logging.makeLogRecord({**source, "msg": "log.left_out", **fields})
