"""Whether Kafka still has what a group reads next, asked of Kafka when partitions are assigned."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from aiokafka import TopicPartition

from runtime.losses import Losses, OutOfReach, Span, changed_topics, ids_in, note_of
from runtime.suspect import Suspect
from runtime.topic_ids import topic_ids


@dataclass(slots=True)
class Reach:
    """The reach of one consumer of a group. `memory` are the topics that the stage's state and offsets rest on.

    Their ids lie in the metadata of every offset that the group commits: Kafka drops the offsets of a topic that is
    deleted, and those of other topics still know it. `anew` has, by partition, the accepted topics that its offset
    knew by another id. Without `losses` the spans only tell, for a stage that keeps and checks its offsets itself.
    """

    losses: Losses | None
    memory: Collection[str] = ()
    anew: dict[TopicPartition, frozenset[str]] = field(default_factory=dict)
    _ids: Mapping[str, str] = field(default_factory=dict)

    async def spans(
        self, consumer: Any, partitions: Collection[TopicPartition], *, unread: Collection[TopicPartition] = ()
    ) -> dict[TopicPartition, Span]:
        """What Kafka has of the partitions, moved behind accepted losses. Raises `OutOfReach`, or `KafkaError`.

        Of those in `unread` only the ids count, because no offset of theirs is committed.
        """
        # aiokafka has no public way to the metadata of a committed offset.
        found = await consumer._coordinator.fetch_committed_offsets([*partitions, *unread])
        first, end = await consumer.beginning_offsets(partitions), await consumer.end_offsets(partitions)
        spans = {tp: Span(first[tp], end[tp], found[tp].offset if tp in found else None) for tp in partitions}
        self._ids = await topic_ids(consumer._client, self.memory) if self.memory else {}
        if self.losses is None:
            anew = frozenset[str]().union(*(changed_topics(ids_in(one.metadata), self._ids) for one in found.values()))
            return {tp: replace(span, is_anew=tp.topic in anew) for tp, span in spans.items()}
        known = {tp: self.losses.made_anew(ids_in(offset.metadata), self._ids) for tp, offset in found.items()}
        self.anew = {tp: topics for tp, topics in known.items() if topics}
        return {
            tp: replace(span, moved_to=span.first)
            if tp.topic in self.anew.get(tp, ())
            else self.losses.checked(tp.topic, tp.partition, span)
            for tp, span in spans.items()
        }

    async def require_same_topics(self, consumer: Any) -> bool:
        """Whether all topics are there; raises `OutOfReach` where one is another by now."""
        ids = await topic_ids(consumer._client, self.memory) if self.memory else {}
        if self.losses is not None:
            self.losses.made_anew(self._ids, ids, accepted=())
        for topic in changed_topics(self._ids, ids):
            raise OutOfReach(f"{topic} was deleted and made anew: start again to see what to do")
        return ids.keys() >= set(self.memory)

    def made_anew(self, partitions: Iterable[TopicPartition]) -> frozenset[str]:
        """The accepted topics that are new to what the group has of these partitions."""
        return frozenset[str]().union(*(self.anew.get(tp, frozenset()) for tp in partitions))

    def is_known(self, partitions: Iterable[TopicPartition]) -> None:
        """The stage has let go of what it had of topics that were made anew."""
        for tp in partitions:
            self.anew.pop(tp, None)

    def note(self, suspect: Suspect | None) -> str:
        """The metadata of a commit."""
        return note_of(suspect, self._ids)
