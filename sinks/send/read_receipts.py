"""Messages that were sent and are not yet known to be read, so that webhooks can confirm them."""

from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime, timedelta

from msgspec.structs import replace

from leads.records import FollowUpOutcome, OutcomeStatus
from messenger.events import DeliveryReceived, PageId, Psid, ReadReceived

# As long as the ledger is remembered across restarts; without a limit the list would grow for ever.
_AWAITED = timedelta(days=5)
# Our stamp on a message may be later than Meta's by so much: they come from two clocks.
_CLOCKS_APART = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class _Sent:
    """The newest outcome of a message, and the time at which its call began."""

    outcome: FollowUpOutcome
    at: datetime


class Receipts:
    """The messages that were sent, by person, until they are read."""

    def __init__(self) -> None:
        self._unread: dict[str, _Sent] = {}
        self._of_person: dict[tuple[PageId, Psid | None], list[str]] = defaultdict(list)

    def note(self, outcome: FollowUpOutcome, at: datetime) -> None:
        """Take in the newest outcome of a command that has a message; its call began at `at`, unless it is known."""
        last = self.forget(outcome.command_id)
        if outcome.status != "read":
            self._unread[outcome.command_id] = _Sent(outcome, last.at if last else at)
            self._of_person[outcome.page_id, outcome.psid].append(outcome.command_id)
        while self._unread and (oldest := next(iter(self._unread.values()))).at < at - _AWAITED:
            self.forget(oldest.outcome.command_id)

    def forget_person(self, page_id: PageId, psid: Psid, until: datetime) -> None:
        """Confirm no message any longer that was sent to this person up to `until`."""
        for command_id in list(self._of_person.get((page_id, psid), ())):
            if self._unread[command_id].at <= until:
                self.forget(command_id)

    def confirmed_by(self, event: DeliveryReceived | ReadReceived) -> tuple[FollowUpOutcome, ...]:
        """The new outcomes of the person's messages that a delivery or read webhook confirms.

        If it names no messages, it confirms everything that was sent before its watermark.
        """
        sent_to = [self._unread[command_id] for command_id in self._of_person.get((event.page_id, event.psid), ())]
        status: OutcomeStatus = "delivered" if isinstance(event, DeliveryReceived) else "read"
        return tuple(
            replace(sent.outcome, status=status, occurred_at=event.event_at, reason=None)
            for sent in sent_to
            if _covers(event, sent)
        )

    def forget(self, command_id: str) -> _Sent | None:
        """Confirm the message of this command no longer."""
        sent = self._unread.pop(command_id, None)
        if sent is not None:
            person = (sent.outcome.page_id, sent.outcome.psid)
            self._of_person[person].remove(command_id)
            if not self._of_person[person]:
                del self._of_person[person]
        return sent


def _covers(event: DeliveryReceived | ReadReceived, sent: _Sent) -> bool:
    is_before = sent.at - _CLOCKS_APART <= event.watermark
    if isinstance(event, ReadReceived):
        return is_before
    if sent.outcome.status == "delivered":
        return False
    return sent.outcome.mid in event.mids if event.mids else is_before
