"""The view of an audit: records of topics, promises of ingest, texts that arrived, rows of the warehouse."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from aiokafka import TopicPartition

from ingest.audit import Promise
from messenger.events import PageId, Psid
from schemas.codec import BUILT_IN, Codec, Ids, NotDecodable
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

    A part of a history has more: it begins `since`, and of the log of webhooks the offsets in `spans` are judged.
    `done` is how far the only reader of a partition is, where the reader is behind. Compaction has taken records of
    the partitions in `thinned`. Of the Pages in `silent` no echo comes, so that their effects are unknown.
    """

    topics: Mapping[str, Sequence[Record]]
    until: datetime
    promises: Sequence[Promise] = ()
    spooled: Collection[str] = frozenset()
    effects: Sequence[Effect] | None = None
    rows: Mapping[str, Sequence[Mapping[str, Any]]] | None = None
    since: datetime | None = None
    spans: Mapping[TopicPartition, range] | None = None
    done: Mapping[TopicPartition, int] | None = None
    thinned: Collection[TopicPartition] = frozenset()
    silent: Collection[PageId] = frozenset()
    ids: Ids = field(default_factory=lambda: BUILT_IN)

    def of(self, topic: Topic) -> Sequence[Record]:
        return self.topics.get(topic.name, ())

    def covers(self, moment: datetime) -> bool:
        """Whether the join's outputs of this moment are judged."""
        return self.since is None or self.since <= moment < self.until

    def is_whole(self, begun_at: datetime) -> bool:
        """Whether the history has everything since then."""
        return self.since is None or begun_at >= self.since

    def spans_over(self, topic: str, partition: int, offset: int) -> bool:
        """Whether a place in the log of webhooks is judged."""
        return self.spans is None or offset in self.spans.get(TopicPartition(topic, partition), ())

    def is_done(self, record: Record) -> bool:
        """Whether the reader of the record has finished it."""
        return self.done is None or record.offset < self.done.get(partition_of(record), 0)


@dataclass(frozen=True, slots=True, order=True)
class Finding:
    """Something that is not as it must be. `what` is a short code; `where` names records and commands, never people."""

    what: str
    where: str

    def __str__(self) -> str:
        return f"{self.what}: {self.where}"


def place_of(record: Record) -> str:
    return f"{record.topic}/{record.partition}/{record.offset}"


def partition_of(record: Record) -> TopicPartition:
    return TopicPartition(record.topic, record.partition)


def decoded(codec: Codec[Any], record: Record) -> Any:
    """The record's value; None of a tombstone, and of one that cannot be read."""
    try:
        return None if record.value is None else codec.decode(record.value)
    except NotDecodable:
        return None
