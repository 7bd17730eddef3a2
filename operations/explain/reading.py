"""Read the records about one person: the partitions of their key and of their Page, from when they are first known."""

import asyncio
from collections.abc import AsyncIterator, Collection, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from leads.facts import Progress as Watermark
from leads.pages import Pages
from leads.records import FetchTranscript, FollowUpOutcome, Lead, SendFollowUp
from messenger.events import Event, person_key
from operations.dead_letters.letters import Known, read_letter
from operations.dead_letters.redrive import MOST_REDRIVES, remembered
from operations.deployment import Deployment
from operations.erase.traces import needles
from operations.explain.hand_off import readers_of, subjects_of
from operations.explain.records import Kept, Records, read_webhook
from operations.explain.timeline import Place
from operations.explain.webhooks import of_origin
from operations.reporting import Progress
from runtime.kafka import partition_of
from runtime.topic_reading import first_since, read_spans
from schemas.codec import (
    Codec,
    NotDecodable,
    command_codec,
    event_codec,
    lead_codec,
    outcome_codec,
    transcript_request_codec,
)
from schemas.topics import COMMANDS, DELIVERIES, EVENTS, JOIN_STATE, LEADS, OUTCOMES, TRANSCRIPTS, WEBHOOKS, Topic
from streams.state import PEOPLE

# Topics are written soon after what they tell of, by machines whose clocks may differ.
MARGIN = timedelta(hours=1)
# The raw log of a Page is searched so long before and after what is known of the person, for what no event names.
AROUND = timedelta(minutes=15)
Spans = dict[TopicPartition, range]


async def spans_between(
    consumer: AIOKafkaConsumer,
    partitions: Collection[TopicPartition],
    since: datetime | None = None,
    until: datetime | None = None,
) -> Spans:
    """The offsets of what was stamped from `since` on and before `until`, as far as they are there now."""
    if not partitions:
        return {}
    begins, ends, *bounds = await asyncio.gather(
        consumer.beginning_offsets(partitions),
        consumer.end_offsets(partitions),
        *(first_since(consumer, partitions, moment) for moment in (since, until) if moment is not None),
    )
    firsts = begins if since is None else {**ends, **bounds[0]}
    stops = ends if until is None else {**ends, **bounds[-1]}
    return {partition: range(firsts[partition], stops[partition]) for partition in partitions}


def place_of(record: ConsumerRecord) -> Place:
    return Place(record.topic, record.partition, record.offset)


@dataclass(slots=True)
class PersonReader:
    """Reads into `records` what was written since a moment. Call the methods in the order in which they stand here.

    All raise `KafkaError`. A record that cannot be read is left out: its reader made a dead letter of it.
    """

    deployment: Deployment
    consumer: AIOKafkaConsumer
    records: Records
    pages: Pages
    progress: Progress
    since: datetime | None

    async def their_partition(self) -> None:
        """Events, commands, outcomes and transcript requests: one partition of each."""
        ids, records = self.deployment.ids, self.records
        topics: dict[Topic, tuple[Codec[Any], dict[Place, Any]]] = {
            EVENTS: (event_codec(ids), records.events),
            COMMANDS: (command_codec(ids), records.commands),
            OUTCOMES: (outcome_codec(ids), records.outcomes),
            TRANSCRIPTS: (transcript_request_codec(ids), records.requests),
        }
        by_name = {self.deployment.topic(topic): topic for topic in topics}
        keys, psid = (self._key, self._page_key), records.psid.encode()
        async for record in self._read({self._of_key(topic, self._key) for topic in topics}, self.since):
            topic = by_name[record.topic]
            if record.key in keys or (topic is OUTCOMES and psid in (record.value or b"")):
                codec, kept = topics[topic]
                self._keep(record, codec, kept)

    async def state_of_the_join(self) -> None:
        """What the join remembers of the person, where an event says since when it has."""
        received = [event.received_at for event in self.records.events.values() if event.psid is not None]
        if not received:
            return
        async for record in self._read([self._of_key(JOIN_STATE, self._key)], max(received)):
            if record.key == self._key:
                self.records.state = PEOPLE.decode(record.value) if record.value else None

    async def revisions(self, lead_ids: Iterable[str]) -> None:
        """The revisions of these leads, and of those that other records name."""
        records, codec = self.records, lead_codec(self.deployment.ids)
        state = records.state.leads if records.state is not None else ()
        ids = {*lead_ids, *(known.lead.lead_id for known in state)}
        ids |= {command.lead_id for command in records.commands.values()}
        ids |= {outcome.lead_id for outcome in records.outcomes.values()}
        ids |= {request.lead_id for request in records.requests.values()}
        keys = {lead_id.encode() for lead_id in ids if lead_id}
        since = min((event.received_at for event in records.events.values()), default=self.since)
        async for record in self._read({self._of_key(LEADS, key) for key in keys}, since):
            if record.key in keys and record.value is not None:
                self._keep(record, codec, records.leads)

    async def hand_off(self) -> None:
        """The hand-offs of their leads, and of the outcomes of their commands."""
        leads = {lead.lead_id: lead for lead in self.records.leads.values()}
        outcomes = {outcome.command_id: outcome for outcome in self.records.outcomes.values()}
        subjects = {*leads, *outcomes}
        readers = {self.deployment.topic(topic): read for topic, read in readers_of(self.deployment.ids).items()}
        partitions = {
            TopicPartition(name, partition_of(lead_id.encode(), self.deployment.settings.partitions))
            for name in readers
            for lead_id in leads
        }
        if outcomes:
            partitions.add(self._of_key(DELIVERIES, self._key))
        times = [lead.first_seen_at for lead in leads.values()]
        times += [outcome.occurred_at for outcome in outcomes.values()]
        async for record in self._read(partitions, min(times, default=None)):
            with suppress(NotDecodable):
                value = readers[record.topic](record.value)
                if value is not None and not subjects.isdisjoint(subjects_of(value)):
                    self.records.handed_on[place_of(record)] = value

    async def webhooks(self) -> None:
        """The deliveries about the person: those that events and leads name, and others of about that time."""
        leads, missing = (
            self.records.leads.values(),
            {of_origin(event.origin) for event in self.records.events.values()},
        )
        missing |= {Place(origin.topic, origin.partition, origin.offset) for lead in leads for origin in lead.origins}
        of_page, wanted = self._of_key(WEBHOOKS, self._page_key), needles([self.records.psid])
        for begin, end in _windows(self._known_times()):
            async for record in self._of_spans(await spans_between(self.consumer, [of_page], begin, end)):
                place = place_of(record)
                if place in missing or any(text in (record.value or b"") for text in wanted):
                    self._keep_webhook(record, is_named=place in missing)
                    missing.discard(place)
        spans = await spans_between(self.consumer, {TopicPartition(place.topic, place.partition) for place in missing})
        for place in missing:
            partition = TopicPartition(place.topic, place.partition)
            if place.offset in spans[partition]:
                async for record in read_spans(self.consumer, {partition: range(place.offset, place.offset + 1)}):
                    self._keep_webhook(record, is_named=True)

    async def letters(self) -> None:
        """The dead letters of the person's records."""
        records, count = self.records, self.deployment.settings.partitions
        keys: dict[Topic, list[bytes]] = {topic: [self._key] for topic in (EVENTS, COMMANDS, TRANSCRIPTS)}
        keys[WEBHOOKS] = [self._page_key]
        keys[LEADS] = [lead.lead_id.encode() for lead in records.leads.values()]
        keys[OUTCOMES] = [command.command_id.encode() for command in records.commands.values()]
        origins = {self.deployment.settings.topic(topic.dead_letters): topic for topic in keys}
        partitions = {
            TopicPartition(name, partition_of(key, count)) for name, topic in origins.items() for key in keys[topic]
        }
        found = []
        async for record in self._read(partitions, min(self._known_times(), default=self.since)):
            topic = origins[record.topic]
            letter = read_letter(record, self.deployment.topic(topic))
            if record.key in keys[topic] and (topic is not WEBHOOKS or self._refuses_theirs(letter.origin)):
                found.append(letter)
        if found:
            gone, discards = await remembered(self.deployment)
            known = Known(gone, {}, MOST_REDRIVES, discards)
            records.letters = [Kept(letter, known.standing(letter), discards.get(letter.id)) for letter in found]

    @property
    def _key(self) -> bytes:
        return person_key(self.records.page_id, self.records.psid).encode()

    @property
    def _page_key(self) -> bytes:
        return self.records.page_id.encode()

    def _of_key(self, topic: Topic, key: bytes) -> TopicPartition:
        return TopicPartition(self.deployment.topic(topic), partition_of(key, self.deployment.settings.partitions))

    async def _read(
        self, partitions: Collection[TopicPartition], since: datetime | None
    ) -> AsyncIterator[ConsumerRecord]:
        async for record in self._of_spans(await spans_between(self.consumer, partitions, since and since - MARGIN)):
            yield record

    async def _of_spans(self, spans: Spans) -> AsyncIterator[ConsumerRecord]:
        with self.progress.count("records read", sum(map(len, spans.values()))) as on_read:
            async for record in read_spans(self.consumer, spans):
                on_read(1)
                yield record

    def _keep(self, record: ConsumerRecord, codec: Codec[Any], kept: dict[Place, Any]) -> None:
        try:
            value = codec.decode(record.value)
        except NotDecodable:
            return
        if value is not None and not isinstance(value, Watermark) and self._is_theirs(value):
            kept[place_of(record)] = value

    def _is_theirs(self, value: Event | Lead | SendFollowUp | FollowUpOutcome | FetchTranscript) -> bool:
        """Whether it is about the person, or their Page, and was not erased."""
        until = self.records.erased_until
        is_erased = until is not None and value.psid is not None and _written_at(value) <= until
        return value.page_id == self.records.page_id and value.psid in (self.records.psid, None) and not is_erased

    def _keep_webhook(self, record: ConsumerRecord, *, is_named: bool) -> None:
        webhook = read_webhook(record, self.pages.aliases, event_codec(self.deployment.ids), self.records.psid)
        if (asked := self.records.webhooks.get(webhook.place)) is not None:
            # An item that cannot be read is nobody's, and it is the delivery that is asked about.
            webhook = replace(webhook, faults=asked.faults, fault=asked.fault)
        until = self.records.erased_until
        says_something = webhook.events or webhook.ignored or webhook.faults or webhook.fault is not None
        if (is_named or says_something) and (until is None or webhook.at > until):
            self.records.webhooks[webhook.place] = webhook

    def _refuses_theirs(self, origin: tuple[int, int] | None) -> bool:
        if origin is None:
            return False
        webhook = self.records.webhooks.get(Place(self.deployment.topic(WEBHOOKS), *origin))
        return webhook is not None and (webhook.fault is not None or bool(webhook.faults))

    def _known_times(self) -> list[datetime]:
        """The times at which something of the person is known to have been received or done."""
        records = self.records
        times = [event.received_at for event in records.events.values() if event.psid is not None]
        times += [outcome.occurred_at for outcome in records.outcomes.values()]
        return times + [moment for lead in records.leads.values() for moment in (lead.first_seen_at, lead.updated_at)]


def _written_at(value: Event | Lead | SendFollowUp | FollowUpOutcome | FetchTranscript) -> datetime:
    match value:
        case Lead():
            return value.updated_at
        case SendFollowUp():
            return value.created_at
        case FollowUpOutcome():
            return value.occurred_at
        case FetchTranscript():
            return value.requested_at
        case _:
            return value.received_at


def _windows(moments: Iterable[datetime]) -> Iterator[tuple[datetime, datetime]]:
    """Spans of time around these moments; those that would touch each other are one."""
    begin = end = None
    for moment in sorted(moments):
        if begin is not None and end is not None and moment - AROUND > end:
            yield begin, end
            begin = None
        begin, end = begin or moment - AROUND, moment + AROUND
    if begin is not None and end is not None:
        yield begin, end
