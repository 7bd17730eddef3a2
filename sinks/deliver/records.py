"""The records of `lead-deliveries`: how far a destination is, whether it is disabled, and each delivery's attempts.

They lie in the partition of the record that is delivered, and name no person.
"""

from datetime import datetime
from typing import Final, Literal

import msgspec
from aiokafka import ConsumerRecord
from msgspec import Struct

Kind = Literal["lead", "outcome", "erasure"]
Status = Literal[
    # A call is about to be made, or was made without a result: it is made again.
    "attempting",
    # The last attempt failed; the next one comes at `next_at`.
    "waiting",
    # An operator asks for it, or it is an erasure that comes next.
    "due",
    # The destination has answered with a success.
    "delivered",
    # Given up: every attempt of the schedule failed, or the body is too large.
    "failed",
    # Not delivered, because the person was erased before.
    "erased",
    # Not delivered, because an operator let the destination begin anew.
    "skipped",
]
OPEN: Final[frozenset[Status]] = frozenset({"attempting", "waiting", "due"})
DisabledReason = Literal[
    # `leadstream deliver disable`.
    "operator",
    # The destination answered 410 Gone.
    "gone",
]


class Delivery(Struct, frozen=True, kw_only=True, tag=True, omit_defaults=True):
    """The last delivery of a lead, an outcome or an erasure to a destination.

    `subject` is the lead's id, or the command's of an outcome. `offset` is that of the record, in the partition of the
    same number; an erasure has none. `attempts` count against the schedule.
    """

    destination: str
    kind: Kind
    subject: str
    lead_id: str
    webhook_id: str
    status: Status
    at: datetime
    offset: int = -1
    revision: int = 0
    attempts: int = 0
    first_at: datetime | None = None
    next_at: datetime | None = None
    result: str = ""

    @property
    def key(self) -> bytes:
        return f"{self.kind}/{self.destination}/{self.subject}".encode()


class Position(Struct, frozen=True, kw_only=True, tag=True):
    """Every record before these offsets, by topic and in the partition of the same number, is settled."""

    destination: str
    leads: int | None = None
    outcomes: int | None = None

    @property
    def key(self) -> bytes:
        return f"position/{self.destination}".encode()


class Standing(Struct, frozen=True, kw_only=True, tag=True):
    """Whether a destination is disabled, and since when."""

    destination: str
    at: datetime
    disabled: DisabledReason | None = None

    @property
    def key(self) -> bytes:
        return f"standing/{self.destination}".encode()


Entry = Delivery | Position | Standing
_DECODER = msgspec.json.Decoder(Entry)


def encode(entry: Entry) -> bytes:
    return msgspec.json.encode(entry)


def entry_of(record: ConsumerRecord) -> Entry | None:
    """The entry in a record; None for a fence, a tombstone and what is none of ours."""
    return decode(record.value)


def decode(value: bytes | None) -> Entry | None:
    """The entry in the value of a record; None where there is none."""
    if value is None:
        return None
    try:
        entry: Entry = _DECODER.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return entry
