"""How many messages people and Pages may still get today."""

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

from leads.records import SendFollowUp
from leads.rules import Caps
from messenger.events import PageId, Psid
from sinks.send.ledger import Ledger


class Quota:
    """The caps, compared with the messages that were sent or may have been: a call under way or in doubt counts.

    `partitions` is how many the topic has. Each has its share of a Page's cap, whichever worker holds it.
    """

    def __init__(self, ledger: Ledger, caps: Caps, partitions: int) -> None:
        self._ledger, self._caps, self._partitions = ledger, caps, partitions
        self._under_way: dict[tuple[int, PageId], dict[str, Psid]] = defaultdict(dict)

    def person_cap_reached(self, partition: int, command: SendFollowUp, now: datetime) -> bool:
        if self._caps.per_person is None:
            return False
        sent = self._ledger.book(partition).tally.of_person(command.page_id, command.psid, now)
        in_doubt = list(self._in_doubt(partition, command, now).values()).count(command.psid)
        return sent + in_doubt >= self._caps.per_person

    def page_cap_reached(self, partition: int, command: SendFollowUp, now: datetime) -> bool:
        most = self._caps.page_share(command.page_id, partition, self._partitions)
        if most is None:
            return False
        sent = self._ledger.book(partition).tally.of_page(command.page_id, now)
        return sent + len(self._in_doubt(partition, command, now)) >= most

    @contextmanager
    def counted(self, partition: int, command: SendFollowUp) -> Iterator[None]:
        """Count the command as if it were sent, as long as the call is under way."""
        calls = self._under_way[partition, command.page_id]
        calls[command.command_id] = command.psid
        try:
            yield
        finally:
            del calls[command.command_id]

    def _in_doubt(self, partition: int, command: SendFollowUp, now: datetime) -> dict[str, Psid]:
        calls = self._under_way[partition, command.page_id] | self._ledger.book(partition).may_have_sent(
            command.page_id, now
        )
        calls.pop(command.command_id, None)
        return calls
