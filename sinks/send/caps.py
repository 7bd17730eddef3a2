"""How many messages people and Pages got in the last day, to be compared with the caps."""

from collections import Counter
from datetime import datetime, timedelta

from leads.records import SendFollowUp
from messenger.events import PageId, Psid, person_key

_DAY = timedelta(days=1)


class Sent:
    """The messages of the last day by command, noted roughly in order: a call under way or in doubt counts as sent."""

    def __init__(self) -> None:
        self._messages: dict[str, tuple[datetime, PageId, str]] = {}
        self._counts: Counter[str] = Counter()

    def note(self, command_id: str, page_id: PageId, psid: Psid, at: datetime) -> None:
        """The newest call of this command was made, or is made now."""
        self.drop(command_id)
        self._messages[command_id] = at, page_id, person_key(page_id, psid)
        self._counts.update(self._messages[command_id][1:])
        self._forget_until(at - _DAY)

    def drop(self, command_id: str) -> None:
        """The command has sent nothing."""
        _, *counted = self._messages.pop(command_id, (None,))
        for key in counted:
            self._counts[key] -= 1
            if not self._counts[key]:
                del self._counts[key]

    def to_person(self, command: SendFollowUp, now: datetime) -> int:
        """How many messages of other commands the person of this one got."""
        return self._others(command, person_key(command.page_id, command.psid), now)

    def for_page(self, command: SendFollowUp, now: datetime) -> int:
        """How many messages of other commands the people of this one's Page got."""
        return self._others(command, command.page_id, now)

    def _others(self, command: SendFollowUp, key: str, now: datetime) -> int:
        self._forget_until(now - _DAY)
        return self._counts[key] - (command.command_id in self._messages)

    def _forget_until(self, moment: datetime) -> None:
        while self._messages and self._messages[oldest := next(iter(self._messages))][0] <= moment:
            self.drop(oldest)
