"""One clock for all workers: the broker's, as its acks tell it, kept going by our own in between."""

from collections.abc import Callable
from datetime import datetime, timedelta


class BrokerTime:
    """The broker's time. A worker whose own clock is wrong neither sends too late nor looks an attempt up too soon."""

    def __init__(self, own: Callable[[], datetime]) -> None:
        self.own = own
        self._ahead = timedelta(0)

    def __call__(self) -> datetime:
        return self.own() + self._ahead

    def hear(self, stamp: datetime, asked_at: datetime) -> None:
        """The broker stamped `stamp` on what we gave it no sooner than `asked_at` by our own clock.

        That takes the broker to be as far ahead as it can be, so that the error closes a window too soon.
        """
        self._ahead = stamp - asked_at
