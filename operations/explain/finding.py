"""Find the person, or the delivery, that an id stands for."""

import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from leads.pages import Pages
from leads.records import FollowUpOutcome, Lead, SendFollowUp
from messenger.events import PageId, Psid
from operations.dead_letters.letters import read_letter
from operations.deployment import Deployment
from operations.explain.reading import Spans, place_of, spans_between
from operations.explain.records import Webhook, read_webhook
from operations.explain.timeline import Place
from operations.reporting import NothingFound, OperationError, Progress
from runtime.kafka import partition_of
from runtime.topic_reading import read_spans
from schemas.codec import NotDecodable, command_codec, event_codec, lead_codec, outcome_codec
from schemas.delivery_ids import DELIVERY_ID, received_about
from schemas.topics import COMMANDS, EVENTS, JOIN_STATE, LEADS, OUTCOMES, STAGES, TOPICS, TRANSCRIPTS, WEBHOOKS, Topic

_PLACE = re.compile(r"(?P<topic>[^/]+)/(?P<partition>\d{1,9})/(?P<offset>\d{1,18})")
# What happened shortly before decides about a lead too: a message that opened the window, an earlier flow, a stop word.
_BEFORE = timedelta(days=1)
# The id may be a PSID, so that it is not named.
_UNKNOWN = "no lead, command or delivery has this id; a person is named as page:psid"
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
# Topics are searched in runs of so many records of a partition: what is looked for is mostly near.
_FIRST_RUN: Final = 500
_LONGEST_RUN: Final = 20_000
# The clock of ingest may be ahead of the broker's.
_SKEW = timedelta(minutes=1)
_KEYED_BY_PERSON = (EVENTS, COMMANDS, TRANSCRIPTS, JOIN_STATE)


@dataclass(frozen=True, slots=True)
class Subject:
    """A person, of whom records since a moment count, None for all; or else a delivery with each of its copies."""

    page_id: PageId | None = None
    psid: Psid | None = None
    since: datetime | None = None
    lead_ids: tuple[str, ...] = ()
    deliveries: tuple[Webhook, ...] = ()


def named_place(text: str, deployment: Deployment) -> Place | None:
    """The place that is written as topic/partition/offset; None for any other id.

    Raises `NothingFound` where this deployment has no such topic or partition.
    """
    match = _PLACE.fullmatch(text)
    if match is None:
        return None
    place, partitions = (
        Place(match["topic"], int(match["partition"]), int(match["offset"])),
        deployment.settings.partitions,
    )
    if place.topic not in map(deployment.topic, TOPICS):
        raise NothingFound(f"{place.topic} is no topic of leadstream: see `leadstream topics list`")
    if place.partition >= partitions:
        raise NothingFound(f"{place.topic} has partitions 0 to {partitions - 1}")
    return place


def is_id(text: str) -> bool:
    """Whether a text has the form of an id."""
    return ":" in text or any(form.fullmatch(text) for form in (_PLACE, _UUID, DELIVERY_ID))


def require_id(text: str, deployment: Deployment) -> None:
    """Raises `NothingFound` for a text that has the form of no id, and as `named_place` does."""
    if not is_id(text):
        raise NothingFound(_UNKNOWN)
    named_place(text, deployment)


@dataclass(frozen=True, slots=True)
class Finder:
    """Finds what ids stand for. Raises `NothingFound` for an unknown one, and `OperationError`, `KafkaError`."""

    deployment: Deployment
    consumer: AIOKafkaConsumer
    pages: Pages
    progress: Progress

    async def find(self, text: str) -> Subject:
        """The subject of a lead id, `page:psid`, a command id, a delivery id, or topic/partition/offset."""
        if (place := named_place(text, self.deployment)) is not None:
            return await self._at(place)
        if ":" in text:
            page_id, _, psid = text.partition(":")
            return Subject(PageId(page_id), Psid(psid))
        if DELIVERY_ID.fullmatch(text):
            found = await self._delivery(text)
        else:
            found = await self._lead(text) or await self._command(text)
        if found is None:
            raise NothingFound(_UNKNOWN)
        return found

    async def _lead(self, lead_id: str) -> Subject | None:
        key = lead_id.encode()
        of_key = TopicPartition(self.deployment.topic(LEADS), partition_of(key, self.deployment.settings.partitions))
        newest = await self._newest([of_key], lambda record: record.key == key)
        if newest is None:
            return None
        if newest.value is None:
            raise NothingFound(f"lead {lead_id} was erased")
        return _of_lead(self._decoded(lead_codec(self.deployment.ids).decode, newest.value))

    async def _command(self, command_id: str) -> Subject | None:
        key, ids = command_id.encode(), self.deployment.ids
        of_ledger = await self._newest(
            self._every(OUTCOMES), lambda record: record.key == key and record.value is not None
        )
        if of_ledger is not None:
            return await self._of_command(self._decoded(outcome_codec(ids).decode, of_ledger.value))
        issued = await self._newest(self._every(COMMANDS), lambda record: key in (record.value or b""))
        if issued is None:
            return None
        # Another command may follow this one, and names it.
        command = self._decoded(command_codec(ids).decode, issued.value)
        return await self._of_command(command) if command_id in (command.command_id, command.follows) else None

    async def _of_command(self, found: SendFollowUp | FollowUpOutcome) -> Subject:
        if found.lead_id and (lead := await self._lead(found.lead_id)) is not None:
            return lead
        at = found.created_at if isinstance(found, SendFollowUp) else found.occurred_at
        return Subject(found.page_id, found.psid, at - _BEFORE)

    async def _delivery(self, delivery_id: str) -> Subject | None:
        """All copies, read from the time that the id names; a spool may drain them later.

        The records before it are read too, in case a clock was wrong.
        """
        header, found = ("delivery-id", delivery_id.encode()), dict[Place, Webhook]()
        since = await spans_between(self.consumer, self._every(WEBHOOKS), received_about(delivery_id) - _SKEW)
        every = await spans_between(self.consumer, since)
        before = {partition: range(span.start, since[partition].start) for partition, span in every.items()}
        with self.progress.count("records read", sum(map(len, every.values()))) as on_read:
            for run in (*_runs(since), *_runs_back(before)):
                async for record in read_spans(self.consumer, run):
                    on_read(1)
                    if header in record.headers:
                        found[place_of(record)] = self._webhook(record)
                if found and len(found) >= next(iter(found.values())).copy[1]:
                    break
        return self._of_deliveries(tuple(found.values())) if found else None

    def _of_deliveries(self, deliveries: tuple[Webhook, ...]) -> Subject:
        """The person of a delivery about one, else the delivery."""
        events = [event for webhook in deliveries for event in webhook.events]
        people = {(event.page_id, event.psid) for event in events if event.psid is not None}
        if len(people) != 1:
            return Subject(deliveries=deliveries)
        [(page_id, psid)] = people
        return Subject(page_id, psid, min(webhook.at for webhook in deliveries) - _BEFORE, deliveries=deliveries)

    def _webhook(self, record: ConsumerRecord) -> Webhook:
        return read_webhook(record, self.pages.aliases, event_codec(self.deployment.ids))

    async def _at(self, place: Place) -> Subject:
        deployment = self.deployment
        topic = next(topic for topic in TOPICS if deployment.topic(topic) == place.topic)
        record = await self._record(place)
        if (refused := next((known for known in TOPICS if known.dead_letters == topic.name), None)) is not None:
            origin = read_letter(record, deployment.topic(refused)).origin
            if refused is WEBHOOKS and origin is not None:
                record = await self._record(Place(deployment.topic(WEBHOOKS), *origin))
            topic = refused
        if topic is WEBHOOKS:
            return self._of_deliveries((self._webhook(record),))
        key = (record.key or b"").decode(errors="replace")
        found = None
        if topic in _KEYED_BY_PERSON and ":" in key:
            page_id, _, psid = key.partition(":")
            found = Subject(PageId(page_id), Psid(psid))
        elif topic in (LEADS, STAGES, OUTCOMES) and key:
            found = await (self._command(key) if topic is OUTCOMES else self._lead(key))
        if found is None:
            raise NothingFound(f"the record {place} is about no person")
        return found

    async def _record(self, place: Place) -> ConsumerRecord:
        partition = TopicPartition(place.topic, place.partition)
        [span] = (await spans_between(self.consumer, [partition])).values()
        if place.offset in span:
            async for record in read_spans(self.consumer, {partition: range(place.offset, place.offset + 1)}):
                return record
        raise NothingFound(f"no such record: {place} is beyond the end, deleted, or compacted away")

    def _every(self, topic: Topic) -> Collection[TopicPartition]:
        name = self.deployment.topic(topic)
        return [TopicPartition(name, number) for number in range(self.deployment.settings.partitions)]

    async def _newest(
        self, partitions: Collection[TopicPartition], is_wanted: Callable[[ConsumerRecord], bool]
    ) -> ConsumerRecord | None:
        """The newest wanted record, of which all are in one partition: ids that are asked about are mostly of late."""
        spans, found = await spans_between(self.consumer, partitions), None
        with self.progress.count("records read", sum(map(len, spans.values()))) as on_read:
            for run in _runs_back(spans):
                async for record in read_spans(self.consumer, run):
                    on_read(1)
                    found = record if is_wanted(record) else found
                if found is not None:
                    return found
        return None

    def _decoded(self, decode: Callable[[bytes], Any], value: bytes) -> Any:
        try:
            return decode(value)
        except NotDecodable as fault:
            raise OperationError(f"its record cannot be read: {fault}") from None


def _runs(spans: Spans) -> Iterator[Spans]:
    """The spans in runs, from their beginning, each longer than the one before."""
    size = _FIRST_RUN
    while spans := {partition: span for partition, span in spans.items() if span}:
        yield {partition: span[:size] for partition, span in spans.items()}
        spans, size = {partition: span[size:] for partition, span in spans.items()}, min(2 * size, _LONGEST_RUN)


def _runs_back(spans: Spans) -> Iterator[Spans]:
    """The same from their end."""
    size = _FIRST_RUN
    while spans := {partition: span for partition, span in spans.items() if span}:
        yield {partition: span[-size:] for partition, span in spans.items()}
        spans, size = {partition: span[:-size] for partition, span in spans.items()}, min(2 * size, _LONGEST_RUN)


def _of_lead(lead: Lead) -> Subject:
    return Subject(lead.page_id, lead.psid, lead.first_seen_at - _BEFORE, (lead.lead_id,))
