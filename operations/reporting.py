"""How an operation speaks to its operator, who may sit at a terminal, read a log, or be a test."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol

from runtime.mendable import Mendable


class OperationError(Mendable):
    """The operation cannot go on."""


class NothingFound(OperationError):
    """Nothing has the id that was asked for."""


class Progress(Protocol):
    """Shows how far an operation is."""

    def say(self, text: str) -> None:
        """Name the step that begins, or a result that came on the way."""

    def count(self, label: str, total: int | None = None) -> AbstractContextManager[Callable[[int], None]]:
        """Count something while the context lasts, up to `total` where it is known; takes each increase."""
