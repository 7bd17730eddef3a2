"""Read a window of the topics, the progress of the stages, and the gaps that retention and compaction have left."""

from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from leads.facts import JoinEvent
from leads.facts import Progress as Watermark
from leads.records import is_notice
from messenger.events import PageId, Psid
from operations.audit.history import decoded
from operations.deployment import Deployment
from operations.explain.reading import spans_between
from operations.reporting import OperationError, Progress
from runtime.clock import from_millis
from runtime.cluster import admin_client
from runtime.consumer_groups import committed_offsets
from runtime.topic_reading import read_runs, whole_topic
from schemas.codec import Codec, event_codec, outcome_codec
from schemas.topics import COMMANDS, DEAD_LETTERS, EVENTS, LEADS, OUTCOMES, TRANSCRIPTS, Topic
from streams.join import within_append
from streams.replay.plan import Plan

# A command waits a day at most. Meta posts a webhook again for a day and a half, so that its lead may be older.
_BEFORE: Mapping[Topic, timedelta] = {
    LEADS: timedelta(days=2),
    COMMANDS: timedelta(hours=26),
    OUTCOMES: timedelta(hours=26),
    # The clocks of those who stamp these may be wrong.
    TRANSCRIPTS: timedelta(hours=1),
    **dict.fromkeys(DEAD_LETTERS, timedelta(hours=1)),
}
_AFTER = timedelta(days=2)
# The groups that alone read a topic to its end, but for the warehouse.
_READERS: Mapping[Topic, str] = {COMMANDS: "leadstream-send", TRANSCRIPTS: "leadstream-transcripts"}

Spans = Mapping[TopicPartition, range]


@dataclass(frozen=True, slots=True)
class Limit:
    """A partition begins at this time, so that nothing before `since` can be judged."""

    place: TopicPartition
    begins_at: datetime
    since: datetime

    def __str__(self) -> str:
        what = f"{self.place.topic}/{self.place.partition} begins at {self.begins_at:%Y-%m-%d %H:%M:%S}"
        return f"{what}, so that nothing before {self.since:%Y-%m-%d %H:%M:%S} can be judged"


@dataclass(slots=True)
class Reading:
    """Reads for one audit. Call the methods in the order in which they stand here. All raise `KafkaError`."""

    deployment: Deployment
    consumer: AIOKafkaConsumer
    plan: Plan
    progress: Progress
    done: dict[TopicPartition, int] = field(default_factory=dict)
    thinned: set[TopicPartition] = field(default_factory=set)
    # How far the splitter was when the join was at its committed offset, by partition of the events.
    joined: defaultdict[int, dict[int, datetime]] = field(default_factory=lambda: defaultdict(dict))
    _joined_to: Mapping[TopicPartition, int] = field(default_factory=dict)
    _spans: Spans = field(default_factory=dict)

    async def readers(self) -> None:
        """How far the join and the sinks are, before anything of theirs is read."""
        settings = self.deployment.settings
        async with admin_client(self.deployment.broker, client_id="leadstream-audit") as admin:
            self._joined_to = await committed_offsets(admin, settings.topic("leadstream"), self.places(EVENTS))
            for topic, group in _READERS.items():
                places = self.places(topic)
                self.done.update(dict.fromkeys(places, 0))
                self.done.update(await committed_offsets(admin, settings.topic(group), places))

    async def limits(self) -> list[Limit]:
        """Where topics begin too late for the window, the last of each."""
        found = [
            Limit(hole.partition, hole.ends_at, hole.ends_at + self.plan.wanted.warm_up)
            for hole in self.plan.holes
            if hole.ends_at is not None
        ]
        places = [place for topic in (EVENTS, COMMANDS, TRANSCRIPTS, *DEAD_LETTERS) for place in self.places(topic)]
        begins, ends = await self.consumer.beginning_offsets(places), await self.consumer.end_offsets(places)
        cut = {place: range(begins[place], begins[place] + 1) for place in places if 0 < begins[place] < ends[place]}
        before = {self.deployment.topic(topic): reach for topic, reach in _BEFORE.items()}
        async for records in read_runs(self.consumer, cut):
            for record in records:
                at = from_millis(record.timestamp)
                place = TopicPartition(record.topic, record.partition)
                found.append(Limit(place, at, at + before.get(record.topic, timedelta(0))))
        latest = {limit.place.topic: limit for limit in sorted(found, key=lambda limit: limit.since)}
        return [limit for limit in latest.values() if limit.since > self.plan.since]

    async def written(self, since: datetime) -> dict[str, list[ConsumerRecord]]:
        """The records of all topics behind the log of webhooks, by topic, and into `joined` the progress in them."""
        until = self.plan.until + _AFTER if self.plan.wanted.until is not None else None
        spans: dict[TopicPartition, range] = {}
        for topic in (EVENTS, *_BEFORE):
            begin = since - _BEFORE.get(topic, timedelta(0))
            spans.update(await spans_between(self.consumer, self.places(topic), begin, until))
        compacted = [*self.places(LEADS), *self.places(OUTCOMES)]
        # With the record before: where that is gone too, compaction has been there.
        spans.update({place: range(max(spans[place].start - 1, 0), spans[place].stop) for place in compacted})
        codec, counts = event_codec(self.deployment.ids), dict.fromkeys(spans, 0)
        names = {self.deployment.topic(topic): topic.name for topic in (EVENTS, *_BEFORE)}
        topics: dict[str, list[ConsumerRecord]] = {name: [] for name in names.values()}
        async for records in self._read(spans):
            for record in records:
                place = TopicPartition(record.topic, record.partition)
                counts[place] += 1
                if not (names[record.topic] == EVENTS.name and self._is_progress(record, codec)):
                    topics[names[record.topic]].append(record)
        self._spans = spans
        self.thinned = {place for place in compacted if counts[place] < len(spans[place])}
        return topics

    def joined_until(self) -> datetime:
        """The time up to which the join has applied everything. Raises `OperationError` where it says nothing."""
        times = [
            self.joined[place.partition].get(number)
            for place in self.places(EVENTS)
            for number in range(self.deployment.settings.partitions)
        ]
        known = [time for time in times if time is not None]
        if len(known) < len(times):
            raise OperationError("`leadstream streams` has joined nothing of that time: does it run?")
        return min(known)

    def places(self, topic: Topic) -> list[TopicPartition]:
        name = self.deployment.topic(topic)
        return [TopicPartition(name, number) for number in range(self.deployment.settings.partitions)]

    async def webhooks(self, begin: datetime, end: datetime | None) -> AsyncIterator[Sequence[ConsumerRecord]]:
        """The log of webhooks from one time to another, or to its end, in runs of one partition each."""
        async for records in self._read(await self.webhook_spans(begin, end)):
            yield records

    async def webhook_spans(self, begin: datetime, end: datetime | None) -> Spans:
        """The offsets of the log of webhooks between two times."""
        return await spans_between(self.consumer, self.plan.spans, begin, end)

    def stored_spans(self) -> dict[TopicPartition, range]:
        """The offsets that were read of each topic, as far as the warehouse has stored them: if that is farther than
        the topic goes, it has rows of records that are gone."""
        has_end = self.plan.wanted.until is not None
        stored = {place: self.done.get(place, 0) for place in self._spans}
        return {
            place: range(span.start, min(span.stop, stored[place]) if has_end else stored[place])
            for place, span in self._spans.items()
        }

    async def opted_out(self, before: datetime) -> set[tuple[PageId, Psid]]:
        """The people who opted out or in before a time; the ledger remembers it for longer than the join's warm-up."""
        codec, found = outcome_codec(self.deployment.ids), set[tuple[PageId, Psid]]()
        for record in await self.whole(OUTCOMES):
            outcome = decoded(codec, record)
            if outcome is not None and is_notice(outcome) and outcome.occurred_at < before:
                found.add((outcome.page_id, outcome.psid))
        return found

    async def whole(self, topic: Topic) -> list[ConsumerRecord]:
        """All records that a topic has now."""
        runs = whole_topic(self.consumer, self.deployment.topic(topic), self.deployment.settings.partitions)
        return [record async for records in runs for record in records]

    async def _read(self, spans: Spans) -> AsyncIterator[Sequence[ConsumerRecord]]:
        with self.progress.count("records read", sum(map(len, spans.values()))) as on_read:
            async for records in read_runs(self.consumer, spans):
                yield records
                on_read(len(records))

    def _is_progress(self, record: ConsumerRecord, codec: Codec[JoinEvent | Watermark | None]) -> bool:
        """Whether it is a report of the splitter; those that the join has applied are noted."""
        if record.key is not None:
            return False
        progress = decoded(codec, record)
        if not isinstance(progress, Watermark):
            return False
        if record.offset < self._joined_to.get(TopicPartition(record.topic, record.partition), 0):
            # Each worker reports of its own raw partitions.
            self.joined[record.partition].update(within_append(progress, from_millis(record.timestamp)).received_until)
        return True
