"""How many messages people and Pages may still get today."""

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

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

    def person_cap_reached(self, partition: int, command: SendFollowUp) -> bool:
        if self._caps.per_person is None:
            return False
        in_doubt = list(self._in_doubt(partition, command).values()).count(command.psid)
        return self._ledger.sent_to(partition, command.page_id, command.psid) + in_doubt >= self._caps.per_person

    def page_cap_reached(self, partition: int, command: SendFollowUp) -> bool:
        most = self._caps.page_share(command.page_id, partition, self._partitions)
        if most is None:
            return False
        in_doubt = len(self._in_doubt(partition, command))
        return self._ledger.sent_for(partition, command.page_id) + in_doubt >= most

    @contextmanager
    def counted(self, partition: int, command: SendFollowUp) -> Iterator[None]:
        """Count the command as if it were sent, as long as the call is under way."""
        calls = self._under_way[partition, command.page_id]
        calls[command.command_id] = command.psid
        try:
            yield
        finally:
            del calls[command.command_id]

    def _in_doubt(self, partition: int, command: SendFollowUp) -> dict[str, Psid]:
        calls = {
            **self._under_way[partition, command.page_id],
            **self._ledger.may_have_sent(partition, command.page_id),
        }
        calls.pop(command.command_id, None)
        return calls
