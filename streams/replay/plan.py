"""The span that a replay reads: from a place in the raw topic, after a warm-up, to another place or the present end."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import MappingProxyType

from aiokafka import AIOKafkaConsumer, TopicPartition

from messenger.events import PageId, Psid
from runtime.clock import from_millis
from runtime.kafka import partition_of
from runtime.mendable import Mendable
from runtime.settings import Settings
from runtime.topic_reading import first_since
from schemas.topics import WEBHOOKS
from streams.progress import CLOCK_SKEW

_NO_ALIASES: Mapping[PageId, PageId] = MappingProxyType({})


class NothingThere(Mendable):
    """The raw topic has no record at the place that was asked for; the message says which."""


@dataclass(frozen=True, slots=True)
class Offset:
    """An offset of the raw topic, of one partition or of each."""

    number: int
    partition: int | None = None


Place = Offset | datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """The span that an operator asks for. `until` None is the present end of the log; the end itself is left out."""

    begin: Place
    until: Place | None
    warm_up: timedelta
    page_id: PageId | None = None
    psid: Psid | None = None


@dataclass(frozen=True, slots=True)
class Hole:
    """Records of a partition before a time were deleted, and the replay would have read them."""

    partition: TopicPartition
    ends_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The offsets to read: of one Page, those of its partition alone, and of the partitions of its other ids.

    The leads of the replay count from `since` up to, not including, `until`.
    """

    wanted: Wanted
    read_from: datetime
    since: datetime
    until: datetime
    spans: Mapping[TopicPartition, range]
    holes: tuple[Hole, ...]

    @property
    def records(self) -> int:
        """The number of offsets to read."""
        return sum(map(len, self.spans.values()))


async def make_plan(
    consumer: AIOKafkaConsumer,
    settings: Settings,
    wanted: Wanted,
    asked_at: datetime,
    aliases: Mapping[PageId, PageId] = _NO_ALIASES,
) -> Plan:
    """Find the offsets. `asked_at` is the time now; the records of the last moments before it may still be on their
    way. `aliases` maps other ids of a Page to its page id. Raises `NothingThere`."""
    log = _Log(consumer, settings)
    everything = log.partitions()
    since = await log.time_of(wanted.begin, everything)
    until = await log.time_of(wanted.until, everything) if wanted.until is not None else asked_at - CLOCK_SKEW
    read_from, stop = since - wanted.warm_up, until if wanted.until is not None else None
    partitions = everything
    if wanted.page_id is not None:
        # A webhook that came before an id was known as the Page's own lies under that id.
        ids = [wanted.page_id, *(other for other, page_id in aliases.items() if page_id == wanted.page_id)]
        numbers = {partition_of(page_id.encode(), settings.partitions) for page_id in ids}
        partitions = [everything[number] for number in sorted(numbers)]
    holes = await log.holes(partitions, read_from)
    if since >= until:
        raise NothingThere("it would end before it begins: see --from and --to")
    return Plan(
        wanted=wanted,
        read_from=read_from,
        since=since,
        until=until,
        spans=await log.spans(partitions, read_from, stop),
        holes=holes,
    )


class _Log:
    def __init__(self, consumer: AIOKafkaConsumer, settings: Settings) -> None:
        self._consumer, self._settings = consumer, settings

    def partitions(self) -> list[TopicPartition]:
        topic = self._settings.topic(WEBHOOKS.name)
        return [TopicPartition(topic, number) for number in range(self._settings.partitions)]

    async def time_of(self, place: Place, partitions: Collection[TopicPartition]) -> datetime:
        """The time itself, or when the earliest record with that offset was received."""
        if isinstance(place, datetime):
            return place
        first, end = await self._bounds(partitions)
        starts = {
            partition: max(place.number, first[partition])
            for partition in partitions
            if place.partition in (None, partition.partition) and max(place.number, first[partition]) < end[partition]
        }
        times = [await self._time_at(partition, offset) for partition, offset in starts.items()]
        if not times:
            where = "any partition" if place.partition is None else f"partition {place.partition}"
            raise NothingThere(f"{self._settings.topic(WEBHOOKS.name)} has no offset {place.number} in {where}")
        return min(times)

    async def spans(
        self, partitions: Collection[TopicPartition], begin: datetime, until: datetime | None
    ) -> dict[TopicPartition, range]:
        """The offsets from one time to another, or to the end: a record that is stamped ahead of the present ends
        nothing there."""
        starts = await self._offsets_at(partitions, begin)
        if until is None:
            _, stops = await self._bounds(partitions)
        else:
            stops = await self._offsets_at(partitions, until)
        return {partition: range(starts[partition], stops[partition]) for partition in partitions}

    async def holes(self, partitions: Collection[TopicPartition], read_from: datetime) -> tuple[Hole, ...]:
        first, end = await self._bounds(partitions)
        found = []
        for partition in partitions:
            if first[partition] > 0:
                ends_at = (
                    await self._time_at(partition, first[partition]) if first[partition] < end[partition] else None
                )
                if ends_at is None or ends_at > read_from:
                    found.append(Hole(partition, ends_at))
        return tuple(found)

    async def _bounds(
        self, partitions: Collection[TopicPartition]
    ) -> tuple[dict[TopicPartition, int], dict[TopicPartition, int]]:
        return await self._consumer.beginning_offsets(partitions), await self._consumer.end_offsets(partitions)

    async def _offsets_at(self, partitions: Collection[TopicPartition], moment: datetime) -> dict[TopicPartition, int]:
        ends: dict[TopicPartition, int] = await self._consumer.end_offsets(partitions)
        return ends | await first_since(self._consumer, partitions, moment)

    async def _time_at(self, partition: TopicPartition, offset: int) -> datetime:
        self._consumer.assign([partition])
        self._consumer.seek(partition, offset)
        return from_millis((await self._consumer.getone(partition)).timestamp)
