"""The plausible time: the wall clock, checked against the time that has passed and against Meta's stamps."""

from dataclasses import dataclass
from datetime import datetime, timedelta

# How far two clocks may differ. NTP keeps them within milliseconds.
TOLERANCE = timedelta(minutes=2)
# The header of a raw record that has the plausible time at which ingest sent it, in milliseconds since 1970.
SENT_AT = "sent-at"


@dataclass(slots=True)
class PlausibleTime:
    """Remembers when the wall clock and the uptime last agreed. The first reading is believed."""

    _wall: datetime
    _uptime: timedelta

    def at(self, wall: datetime, uptime: timedelta) -> datetime:
        """The time when the clocks show this: the wall clock's, unless it has jumped ahead; then what has passed."""
        expected = self._expected(uptime)
        if abs(wall - expected) > TOLERANCE:
            return min(wall, expected)
        self._wall, self._uptime = wall, uptime
        return wall

    def confirm(self, stamp: datetime, wall: datetime, uptime: timedelta) -> None:
        """Believe a wall clock that has jumped as far as a stamp of Meta's goes: the present is no earlier than that.

        So a machine that was paused together with its uptime goes on with the first webhook.
        """
        if self._expected(uptime) < min(stamp, wall):
            self._wall, self._uptime = min(stamp, wall), uptime

    def _expected(self, uptime: timedelta) -> datetime:
        return self._wall + (uptime - self._uptime)
