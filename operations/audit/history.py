"""The view of an audit: records of topics, promises of ingest, texts that arrived, rows of the warehouse."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ingest.audit import Promise
from messenger.events import PageId, Psid
from schemas.topics import Topic
from streams.records import Record


@dataclass(frozen=True, slots=True)
class Effect:
    """A text that a person got, by the command that it was sent for."""

    command_id: str
    page_id: PageId
    psid: Psid
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """`topics` are by their names without a prefix, each partition in its order. `spooled` has the digests of bodies.

    Without `promises`, `effects` or `rows` nothing is said of them. `until` is the time of the last progress of all.
    """

    topics: Mapping[str, Sequence[Record]]
    until: datetime
    promises: Sequence[Promise] = ()
    spooled: Collection[str] = frozenset()
    effects: Sequence[Effect] | None = None
    rows: Mapping[str, Sequence[Mapping[str, Any]]] | None = None

    def of(self, topic: Topic) -> Sequence[Record]:
        return self.topics.get(topic.name, ())


@dataclass(frozen=True, slots=True, order=True)
class Finding:
    """Something that is not as it must be. `what` is a short code; `where` names records and commands, never people."""

    what: str
    where: str

    def __str__(self) -> str:
        return f"{self.what}: {self.where}"


def place_of(record: Record) -> str:
    return f"{record.topic}/{record.partition}/{record.offset}"
