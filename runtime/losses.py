"""Records that Kafka lost before a stage read them: reported, counted, and refused until an operator accepts the loss.

Three things lose records without an error: retention that overtakes a stage, a truncated log, and a topic that was
deleted and made anew, whose offsets begin again. The first two show in the offsets, the third in the topic's id.
"""

import json
import logging
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from runtime.mendable import Mendable
from runtime.metrics import Metrics
from runtime.suspect import SUSPECT, Place, Suspect

_log = logging.getLogger(__name__)

_TOPICS = "topics"


class OutOfReach(Mendable):
    """Kafka no longer has the next record; the message says where, how much is lost, and what to do."""


def gone(topic: str, partition: int, offset: int) -> str:
    """The message where a running reader finds that its next record is gone."""
    return (
        f"{topic}/{partition}: Kafka no longer has offset {offset}, which comes next: retention passed it, or the topic"
        " was cut off or made anew; start again to see what is lost"
    )


@dataclass(frozen=True, slots=True)
class Span:
    """A partition in Kafka: its offsets from `first` up to, not including, `end`, and the group's committed offset.

    `moved_to` is the offset to read on from after an accepted loss. `is_anew`: the group knew the topic by another id.
    """

    first: int
    end: int
    committed: int | None
    moved_to: int | None = None
    is_anew: bool = False

    @property
    def start(self) -> int:
        """The offset to read on from."""
        if self.moved_to is not None:
            return self.moved_to
        return self.first if self.committed is None else self.committed


@dataclass(frozen=True, slots=True)
class Accepted:
    """The losses that an operator accepts: `places` by partition and committed offset, and topics made anew."""

    places: Collection[Place] = ()
    topics: Collection[str] = ()


NOTHING = Accepted()


@dataclass(slots=True)
class Losses:
    """The losses of one stage; `command` starts it, and is quoted in errors."""

    command: str
    metrics: Metrics
    accepted: Accepted = NOTHING

    def checked(self, topic: str, partition: int, span: Span) -> Span:
        """The span, moved behind an accepted loss. Raises `OutOfReach` for any other loss."""
        at, where = span.committed, {"topic": topic, "partition": partition}
        if at is None:
            if span.first > 0:
                _log.info("offsets.none_committed", extra={**where, "begins_at": span.first})
            return span
        if span.first <= at <= span.end:
            return span
        lost = max(span.first - at, 0)
        self.metrics.records_lost.labels(topic, partition).inc(lost)
        if (topic, partition, at) in self.accepted.places:
            begin = span.first if lost else span.end
            _log.warning("loss.accepted", extra={**where, "offset": at, "begins_at": begin, "lost": lost})
            return replace(span, moved_to=begin)
        seen = f"{lost} records are lost, offsets {at} to {span.first - 1}, because retention passed this stage"
        if not lost:
            seen = f"the log ends at {span.end} and was read to {at}, so its end was cut off"
        raise OutOfReach(
            f"{topic}/{partition}: {seen}; to go on: `{self.command} --accept-loss {topic}:{partition}:{at}`,"
            ' then restore them: see "Records were lost" in docs/operating.md'
        )

    def made_anew(self, known: Mapping[str, str], ids: Mapping[str, str]) -> frozenset[str]:
        """The topics whose id has changed, if all are accepted. Raises `OutOfReach`."""
        anew = changed_topics(known, ids)
        for topic in sorted(anew):
            if topic not in self.accepted.topics:
                raise OutOfReach(
                    f"{topic} was deleted and made anew (id {known[topic]}, now {ids[topic]}): what it had is gone, and"
                    f" its offsets begin again; to go on: `{self.command} --accept-loss {topic}`:"
                    ' see "Records were lost" in docs/operating.md'
                )
            _log.warning("loss.accepted", extra={"topic": topic, "known_id": known[topic], "id": ids[topic]})
        return anew


def changed_topics(known: Mapping[str, str], ids: Mapping[str, str]) -> frozenset[str]:
    """The topics whose id has changed."""
    return frozenset(topic for topic, id_ in known.items() if ids.get(topic, id_) != id_)


def note_of(suspect: Suspect | None, ids: Mapping[str, str]) -> str:
    """The metadata to commit: the suspect, and the ids of the topics that the stage's state depends on."""
    note: dict[str, Any] = {} if suspect is None else {SUSPECT: asdict(suspect)}
    if ids:
        note[_TOPICS] = dict(ids)
    return json.dumps(note) if note else ""


def ids_in(metadata: str | None) -> dict[str, str]:
    """The ids in the metadata of a committed offset; none in metadata that another program wrote."""
    try:
        ids = json.loads(metadata or "null")[_TOPICS]
        return {str(topic): str(id_) for topic, id_ in ids.items()}
    except (ValueError, TypeError, KeyError, AttributeError):
        return {}
