"""How many messages went out in the last day, by person and by Page."""

from collections import defaultdict, deque
from datetime import datetime, timedelta

from messenger.events import PageId, Psid, person_key

DAY = timedelta(days=1)


class Tally:
    """Times of messages, noted roughly in their order; what is older than a day is forgotten when it is asked for."""

    def __init__(self) -> None:
        self._times: dict[str, deque[datetime]] = defaultdict(deque)

    def note(self, page_id: PageId, psid: Psid, at: datetime) -> None:
        for key in (page_id, person_key(page_id, psid)):
            self._times[key].append(at)

    def of_person(self, page_id: PageId, psid: Psid, now: datetime) -> int:
        return self._since(person_key(page_id, psid), now - DAY)

    def of_page(self, page_id: PageId, now: datetime) -> int:
        return self._since(page_id, now - DAY)

    def _since(self, key: str, moment: datetime) -> int:
        times = self._times.get(key)
        while times and times[0] <= moment:
            times.popleft()
        if not times:
            self._times.pop(key, None)
            return 0
        return len(times)
