"""The messages of the last day, counted by person and by Page."""

from collections import Counter, deque
from datetime import datetime, timedelta

from messenger.events import PageId, Psid, person_key

DAY = timedelta(days=1)


class Tally:
    """Counts messages by their times, noted roughly in order, and forgets those older than a day."""

    def __init__(self) -> None:
        self._times: deque[tuple[datetime, PageId, Psid]] = deque()
        self._counts: Counter[str] = Counter()

    def note(self, page_id: PageId, psid: Psid, at: datetime) -> None:
        self._times.append((at, page_id, psid))
        self._counts.update((page_id, person_key(page_id, psid)))
        self._forget_until(at - DAY)

    def of_person(self, page_id: PageId, psid: Psid, now: datetime) -> int:
        self._forget_until(now - DAY)
        return self._counts[person_key(page_id, psid)]

    def of_page(self, page_id: PageId, now: datetime) -> int:
        self._forget_until(now - DAY)
        return self._counts[page_id]

    def _forget_until(self, moment: datetime) -> None:
        while self._times and self._times[0][0] <= moment:
            _, page_id, psid = self._times.popleft()
            for key in (page_id, person_key(page_id, psid)):
                self._counts[key] -= 1
                if not self._counts[key]:
                    del self._counts[key]
