"""The topics of one replay, its span, and its leads beside the live ones of the same time."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition
from pydantic import TypeAdapter

from leads.diff import Difference, differences
from leads.erasures import NOBODY, Erasures
from leads.records import Lead, LeadId
from messenger.events import PageId, Psid
from runtime.mendable import Mendable
from runtime.settings import Settings
from runtime.topic_admin import ExpectedTopic
from runtime.topic_reading import whole_topic
from schemas.codec import Codec
from schemas.topics import COMMANDS, EVENTS, FOREVER, JOIN_STATE, LEADS, TRANSCRIPTS, Topic
from streams.replay.plan import Plan

_SHADOWED = (EVENTS, LEADS, COMMANDS, TRANSCRIPTS, JOIN_STATE)


class NotReplayed(Mendable):
    """There is no finished replay of that name; the message is fit to print."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Extent:
    """The extent of a finished replay: leads that changed from `since` up to, not including, `until`."""

    since: datetime
    until: datetime
    page_id: PageId | None = None
    psid: Psid | None = None

    def covers(self, lead: Lead) -> bool:
        """Whether this very revision falls into it."""
        return self.since <= lead.updated_at < self.until and self._is_about(lead)

    def is_passed_by(self, lead: Lead) -> bool:
        """Whether a lead of ours has gone on since."""
        return lead.updated_at >= self.until and self._is_about(lead)

    def _is_about(self, lead: Lead) -> bool:
        return self.page_id in (None, lead.page_id) and self.psid in (None, lead.psid)


@dataclass(frozen=True, slots=True)
class Reached:
    """How many of the records of its plan a replay has read."""

    records: int
    of: int


_EXTENT, _REACHED = TypeAdapter(Extent), TypeAdapter(Reached)
_READ = b"read"


def extent_of(plan: Plan) -> Extent:
    wanted = plan.wanted
    return Extent(since=plan.since, until=plan.until, page_id=wanted.page_id, psid=wanted.psid)


class Shadow:
    """The topics of the replay called `name`, on the cluster of these settings."""

    def __init__(self, settings: Settings, name: str) -> None:
        self._settings, self.name = settings, name

    @property
    def record(self) -> str:
        """The topic that says how far the replay is, and names the extent once it is done."""
        return self._settings.topic(f"leadstream-replay-{self.name}")

    def topic(self, topic: Topic) -> str:
        return self._settings.topic(topic.shadow(self.name))

    @property
    def topics(self) -> list[ExpectedTopic]:
        """Like the topics that they shadow, and one more for the extent."""
        partitions, replication = self._settings.partitions, self._settings.replication
        return [
            *(
                ExpectedTopic(self.topic(topic), partitions, replication, topic.settings_for(self._settings.retention))
                for topic in _SHADOWED
            ),
            ExpectedTopic(self.record, 1, replication, FOREVER),
        ]

    async def note(self, producer: AIOKafkaProducer, reached: Reached) -> None:
        """Say how far the replay is."""
        await producer.send_and_wait(self.record, _REACHED.dump_json(reached), key=_READ)

    async def finish(self, producer: AIOKafkaProducer, extent: Extent) -> None:
        """Mark the replay as complete."""
        await producer.send_and_wait(self.record, _EXTENT.dump_json(extent))

    async def standing(self, consumer: AIOKafkaConsumer) -> tuple[Reached | None, Extent | None]:
        """How far the replay has said that it is, and its extent, None until it has come to its end."""
        reached = extent = None
        async for records in whole_topic(consumer, self.record, 1):
            for record in records:
                if record.key == _READ:
                    reached = _REACHED.validate_json(record.value)
                else:
                    extent = _EXTENT.validate_json(record.value)
        return reached, extent

    async def extent(self, consumer: AIOKafkaConsumer) -> Extent:
        """Raises `NotReplayed` for a replay that did not come to its end."""
        _, extent = await self.standing(consumer)
        if extent is None:
            raise NotReplayed(f"the replay {self.name} has not finished: drop it, and run it again")
        return extent


@dataclass(slots=True)
class Reading:
    """The revisions of one `leads` topic that fall into an extent.

    `passed` are leads that went on after it; compaction may have taken their revisions inside it. `last_revision` is
    the highest number of each lead, at any time. `ends` are the offsets after what was read.
    """

    revisions: list[Lead] = field(default_factory=list)
    newest: dict[LeadId, Lead] = field(default_factory=dict)
    passed: set[LeadId] = field(default_factory=set)
    last_revision: dict[LeadId, int] = field(default_factory=dict)
    ends: dict[TopicPartition, int] = field(default_factory=dict)


async def read_leads(
    runs: AsyncIterator[Sequence[ConsumerRecord]], codec: Codec[Lead], extent: Extent, erasures: Erasures = NOBODY
) -> Reading:
    """Take in a whole topic, but for the leads of people who were erased since."""
    reading = Reading()
    async for records in runs:
        for record in records:
            lead = None if record.value is None else codec.decode(record.value)
            if lead is not None and not erasures.cover(lead.page_id, lead.psid, lead.updated_at):
                _take_in(lead, extent, reading)
            reading.ends[TopicPartition(record.topic, record.partition)] = record.offset + 1
    return reading


def _take_in(lead: Lead, extent: Extent, reading: Reading) -> None:
    reading.last_revision[lead.lead_id] = max(lead.revision, reading.last_revision.get(lead.lead_id, 0))
    if extent.is_passed_by(lead):
        reading.passed.add(lead.lead_id)
    if not extent.covers(lead):
        return
    reading.revisions.append(lead)
    known = reading.newest.get(lead.lead_id)
    if known is None or lead.revision >= known.revision:
        reading.newest[lead.lead_id] = lead


@dataclass(slots=True)
class Comparison:
    """The differences between a replay and the present, and how many leads could not be compared.

    `gone_on` are leads whose live revisions of that time compaction has taken.
    """

    found: list[Difference]
    compared: int
    gone_on: int


def compare(live: Reading, replayed: Reading) -> Comparison:
    gone_on = {lead_id for lead_id in live.passed if lead_id not in live.newest}
    ours = {lead_id: lead for lead_id, lead in replayed.newest.items() if lead_id not in gone_on}
    found = differences(live.newest, ours)
    return Comparison(found, len(live.newest.keys() | ours.keys()), len(gone_on & replayed.newest.keys()))
