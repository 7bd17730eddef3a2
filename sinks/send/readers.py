"""The send sink's inputs, from Kafka's records: commands, and the events of the same people."""

from collections.abc import Callable
from typing import Any

from leads.facts import JoinEvent, LeadPromoted, Progress
from leads.records import SendFollowUp
from messenger.events import person_key
from messenger.limits import ID_MAX
from runtime.clock import from_millis
from runtime.kafka import partition_of
from schemas.codec import Codec, NotDecodable

Input = SendFollowUp | JoinEvent | Progress | None


def event_reader(codec: Codec[JoinEvent | Progress | None]) -> Callable[[Any], Input]:
    """Decodes events; an unreadable one is None, because the join makes the dead letter of it."""

    def read(record: Any) -> Input:
        try:
            event = codec.decode(record.value)
        except NotDecodable:
            return None
        if isinstance(event, Progress):
            # As in the join: whatever the splitter's clock said, the broker's had come no further.
            appended_at = from_millis(record.timestamp)
            return Progress(tuple((partition, min(time, appended_at)) for partition, time in event.received_until))
        return None if isinstance(event, LeadPromoted) else event

    return read


def command_reader(codec: Codec[SendFollowUp], partitions: int) -> Callable[[Any], SendFollowUp]:
    """Decodes a command, and refuses one that lies in another partition than its person's events.

    Nothing could cancel it there, and a copy in a second partition, with a ledger of its own, would be sent too.
    """

    def read(record: Any) -> SendFollowUp:
        command = codec.decode(record.value)
        if max(len(command.command_id), len(command.lead_id)) > ID_MAX:
            raise NotDecodable("id_too_long")
        key = person_key(command.page_id, command.psid).encode()
        if record.key != key:
            raise NotDecodable("key_of_another")
        if record.partition != partition_of(key, partitions):
            raise NotDecodable("wrong_partition", "produce with the partitioner murmur2")
        return command

    return read
