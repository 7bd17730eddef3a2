"""One clock for all workers: the broker's, by the stamps of its acks, and by our own clock in between."""

from collections.abc import Callable
from datetime import datetime, timedelta

from runtime.clock import uptime as since_boot


class BrokerTime:
    """The broker's time: a worker with a wrong clock neither sends too late nor looks an attempt up too soon."""

    def __init__(self, own: Callable[[], datetime], uptime: Callable[[], timedelta] = since_boot) -> None:
        self.own, self._uptime = own, uptime
        self._ahead = timedelta(0)

    def __call__(self) -> datetime:
        return self.own() + self._ahead

    def stopwatch(self) -> Callable[[], timedelta]:
        """Starts one, which gives the time that has passed since.

        Our own clock may be set back, and the uptime of a paused machine stands still: the longer time counts.
        """
        began_at, began = self.own(), self._uptime()
        return lambda: max(self.own() - began_at, self._uptime() - began)

    def hear(self, stamp: datetime, asked_at: datetime) -> None:
        """Take in the broker's stamp on a record that we sent no sooner than `asked_at` by our own clock.

        This assumes the broker as far ahead as possible, so that the error closes a window too soon.
        """
        self._ahead = stamp - asked_at
