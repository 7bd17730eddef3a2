"""How many messages people and Pages may still get today."""

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

from leads.records import SendFollowUp
from leads.rules import Caps
from messenger.events import PageId, Psid
from sinks.send.ledger import Ledger


class Quota:
    """The caps, held against what the ledger says was sent and what may have been: a call under way or in doubt.

    `partitions` is how many there are in all; each has its part of a Page's cap, whoever holds it.
    """

    def __init__(self, ledger: Ledger, caps: Caps, partitions: int) -> None:
        self._ledger, self._caps, self._partitions = ledger, caps, partitions
        self._under_way: dict[tuple[int, PageId], dict[str, Psid]] = defaultdict(dict)

    def is_used_up_by_person(self, partition: int, command: SendFollowUp) -> bool:
        if self._caps.per_person is None:
            return False
        perhaps = list(self._perhaps_sent(partition, command).values()).count(command.psid)
        return self._ledger.sent_to(partition, command.page_id, command.psid) + perhaps >= self._caps.per_person

    def is_used_up_by_page(self, partition: int, command: SendFollowUp) -> bool:
        most = self._caps.page_share(command.page_id, partition, self._partitions)
        if most is None:
            return False
        perhaps = len(self._perhaps_sent(partition, command))
        return self._ledger.sent_for(partition, command.page_id) + perhaps >= most

    @contextmanager
    def counted(self, partition: int, command: SendFollowUp) -> Iterator[None]:
        """Count the command as if it were sent, as long as the call is under way."""
        calls = self._under_way[partition, command.page_id]
        calls[command.command_id] = command.psid
        try:
            yield
        finally:
            del calls[command.command_id]

    def _perhaps_sent(self, partition: int, command: SendFollowUp) -> dict[str, Psid]:
        perhaps = {
            **self._under_way[partition, command.page_id],
            **self._ledger.may_have_sent(partition, command.page_id),
        }
        perhaps.pop(command.command_id, None)
        return perhaps
