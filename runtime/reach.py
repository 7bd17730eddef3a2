"""Whether Kafka still has the records that a group reads next, checked when partitions are assigned."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from aiokafka import TopicPartition

from runtime.losses import NOTHING, Losses, OutOfReach, Span, changed_topics, ids_in, note_of
from runtime.suspect import Suspect
from runtime.topic_metadata import topic_ids


@dataclass(slots=True)
class Reach:
    """The reach of one consumer of a group. `memory` are the topics that the stage's state and offsets depend on.

    Their ids are in the metadata of every offset that the group commits: Kafka drops the offsets of a deleted topic,
    but those of other topics keep its id. `anew` has, by partition, the accepted topics whose id has changed. Without
    `losses` nothing is refused, for a stage that keeps and checks its offsets itself.
    """

    losses: Losses | None
    memory: Collection[str] = ()
    anew: dict[TopicPartition, frozenset[str]] = field(default_factory=dict)
    _ids: Mapping[str, str] = field(default_factory=dict)

    async def spans(
        self, consumer: Any, partitions: Collection[TopicPartition], *, unread: Collection[TopicPartition] = ()
    ) -> dict[TopicPartition, Span]:
        """The spans of the partitions, moved behind accepted losses. Raises `OutOfReach`, or `KafkaError`.

        Only the ids of `unread` partitions are checked, because they have no committed offset.
        """
        # aiokafka has no public way to the metadata of a committed offset.
        committed = await consumer._coordinator.fetch_committed_offsets([*partitions, *unread])
        first, end = await consumer.beginning_offsets(partitions), await consumer.end_offsets(partitions)
        # In one order, so that the sinks do all else in one order too.
        spans = {
            tp: Span(first[tp], end[tp], committed[tp].offset if tp in committed else None) for tp in sorted(partitions)
        }
        self._ids = await topic_ids(consumer._client, self.memory)
        if self.losses is None:
            changes = (changed_topics(ids_in(offset.metadata), self._ids) for offset in committed.values())
            anew = frozenset[str]().union(*changes)
            return {tp: replace(span, is_anew=tp.topic in anew) for tp, span in spans.items()}
        accepted = {tp: self.losses.made_anew(ids_in(offset.metadata), self._ids) for tp, offset in committed.items()}
        self.anew = {tp: topics for tp, topics in accepted.items() if topics}
        return {
            tp: replace(span, moved_to=span.first)
            if tp.topic in self.anew.get(tp, ())
            else self.losses.checked(tp.topic, tp.partition, span)
            for tp, span in spans.items()
        }

    async def require_same_topics(self, consumer: Any) -> bool:
        """Whether all topics exist; raises `OutOfReach` where the id of one has changed."""
        ids = await topic_ids(consumer._client, self.memory)
        if self.losses is not None:
            replace(self.losses, accepted=NOTHING).made_anew(self._ids, ids)
        for topic in changed_topics(self._ids, ids):
            raise OutOfReach(f"{topic} was deleted and made anew: start again to see what to do")
        return ids.keys() >= set(self.memory)

    def made_anew(self, partitions: Iterable[TopicPartition]) -> frozenset[str]:
        """The accepted topics whose id has changed for these partitions."""
        return frozenset[str]().union(*(self.anew.get(tp, frozenset()) for tp in partitions))

    def is_known(self, partitions: Iterable[TopicPartition]) -> None:
        """Call when the stage has dropped its state of topics that were made anew."""
        for tp in partitions:
            self.anew.pop(tp, None)

    def note(self, suspect: Suspect | None) -> str:
        """The metadata of a commit."""
        return note_of(suspect, self._ids)
