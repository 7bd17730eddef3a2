"""How many messages people and Pages got in the last day, and when: to be compared with the caps and the gaps."""

from collections import Counter, defaultdict
from datetime import datetime, timedelta

from leads.records import FollowUpOutcome, SendFollowUp
from messenger.events import PageId, person_key

_DAY = timedelta(days=1)


class Sent:
    """The messages of the last day by command, noted roughly in order: a call under way or in doubt counts as sent."""

    def __init__(self) -> None:
        self._messages: dict[str, tuple[datetime, PageId, str]] = {}
        self._to_page: Counter[str] = Counter()
        # By person and command, when it went, and the course that it belongs to.
        self._to_person: dict[str, dict[str, tuple[datetime, tuple[str, str]]]] = defaultdict(dict)

    def note(self, message: SendFollowUp | FollowUpOutcome, at: datetime) -> None:
        """The newest call of this command was made, or is made now."""
        self.drop(message.command_id)
        person = person_key(message.page_id, message.psid)
        self._messages[message.command_id] = at, message.page_id, person
        self._to_page[message.page_id] += 1
        self._to_person[person][message.command_id] = at, _course(message)
        self._forget_until(at - _DAY)

    def drop(self, command_id: str) -> None:
        """The command has sent nothing."""
        if command_id not in self._messages:
            return
        _, page_id, person = self._messages.pop(command_id)
        self._to_page[page_id] -= 1
        if not self._to_page[page_id]:
            del self._to_page[page_id]
        del self._to_person[person][command_id]
        if not self._to_person[person]:
            del self._to_person[person]

    def to_person(self, command: SendFollowUp, now: datetime) -> int:
        """How many messages of other commands the person of this one got."""
        self._forget_until(now - _DAY)
        return len(self._of_person(command)) - (command.command_id in self._messages)

    def for_page(self, command: SendFollowUp, now: datetime) -> int:
        """How many messages of other commands the people of this one's Page got."""
        self._forget_until(now - _DAY)
        return self._to_page[command.page_id] - (command.command_id in self._messages)

    def last_of_other_courses(self, command: SendFollowUp) -> datetime | None:
        """When the person got the newest message of another rule, or for another lead, in the last day."""
        sent = self._of_person(command).values()
        return max((at for at, course in sent if course != _course(command)), default=None)

    def _of_person(self, command: SendFollowUp) -> dict[str, tuple[datetime, tuple[str, str]]]:
        return self._to_person.get(person_key(command.page_id, command.psid), {})

    def _forget_until(self, moment: datetime) -> None:
        while self._messages and self._messages[oldest := next(iter(self._messages))][0] <= moment:
            self.drop(oldest)


def _course(message: SendFollowUp | FollowUpOutcome) -> tuple[str, str]:
    return message.lead_id, message.rule
