"""Split: raw deliveries → their platform events, one record each, and our own facts; the unreadable → dead letters."""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial

import faust
from msgspec.structs import replace

from leads.erasures import NOBODY, Erasures
from leads.facts import Fact, JoinEvent, Progress
from leads.pages import Pages
from messenger.errors import UnreadableDelivery
from messenger.events import Origin, PageId
from messenger.webhook import ItemFault, Parsed, Share, parse_delivery
from runtime.clock import from_millis, now, uptime
from runtime.dead_letter import DeadLetterLimit
from runtime.health import Health
from runtime.metrics import Metrics
from runtime.plausible import TOLERANCE, PlausibleTime
from runtime.settings import Settings
from schemas.codec import KINDS, Codec, Ids, NotDecodable, event_codec
from schemas.copies import SIGNATURE, share_of
from schemas.topics import EVENTS, WEBHOOKS
from streams.dead_letters import Refusals, tried
from streams.engine.transport import end_of_log, producer_of
from streams.progress import ProgressKeeper
from streams.records import Outgoing, Record, Refusal, event_key, received_at

EventCodec = Codec[JoinEvent | Progress | None]

BUILT_IN_CODEC = event_codec()
# The first byte of Avro in the Confluent wire format.
_MAGIC = b"\0"
_NAMED_FAULTS = 10


@dataclass(slots=True)
class Split:
    """The outputs of a run of deliveries, in their order; `ignored` counts by reason."""

    events: list[JoinEvent] = field(default_factory=list)
    refused: list[Refusal] = field(default_factory=list)
    ignored: Counter[str] = field(default_factory=Counter)

    def add(self, more: "Split") -> None:
        self.events += more.events
        self.refused += more.refused
        self.ignored += more.ignored


def split(
    records: Sequence[Record],
    aliases: Mapping[PageId, PageId],
    erasures: Erasures = NOBODY,
    *,
    codec: EventCodec = BUILT_IN_CODEC,
) -> Split:
    """Every messaging item of these deliveries as an event, an ignored reason, or a reason to refuse its delivery.

    A bad item refuses its delivery once, with every bad item named, and the rest of the delivery goes on. Of a copy of
    a delivery, only its share of the items. Facts of ours are passed on in their turn; `codec` reads them.
    """
    done = Split()
    for record in records:
        if is_fact(record):
            fact = _read_fact(record, codec)
            if isinstance(fact, str):
                done.refused.append(Refusal(record, fact))
            elif erasures.kill(fact):
                done.ignored["erased"] += 1
            else:
                done.events.append(fact)
            continue
        parsed = _parse(record, aliases)
        if isinstance(parsed, str):
            done.refused.append(Refusal(record, parsed))
            continue
        living = [event for event in parsed.events if not erasures.kill(event)]
        done.events += living
        if len(living) < len(parsed.events):
            done.ignored["erased"] += len(parsed.events) - len(living)
        done.ignored.update(parsed.ignored)
        if parsed.faults:
            done.refused.append(Refusal(record, _reason(parsed.faults)))
    return done


def is_fact(record: Record) -> bool:
    """Whether the record is a fact of ours, and no body of Meta's: that one has Meta's signature beside it."""
    return (record.value or b"")[:1] == _MAGIC and all(name != SIGNATURE for name, _ in record.headers)


def _read_fact(record: Record, codec: EventCodec) -> Fact | str:
    """The fact, received when the broker appended it, as a webhook is, and with its own record as its origin."""
    try:
        event = codec.decode(record.value)
    except NotDecodable as fault:
        return str(fault)
    if not isinstance(event, Fact):
        return "not_a_fact"
    itself = Origin(record.topic, record.partition, record.offset)
    return replace(event, received_at=received_at(record), origin=itself)


def _reason(faults: Sequence[ItemFault]) -> str:
    """The codes, then the first items: the reason is a header, and a body can hold a million items."""
    codes = ", ".join(dict.fromkeys(fault.reason for fault in faults))
    named = [f"item {fault.item} ({fault.place})" for fault in faults[:_NAMED_FAULTS]]
    more = [f"{len(faults) - _NAMED_FAULTS} more"] if len(faults) > _NAMED_FAULTS else []
    return f"{codes}: {', '.join(named + more)}"


def _parse(record: Record, aliases: Mapping[PageId, PageId]) -> Parsed | str:
    if record.value is None:
        return "no_value"
    received, stamp, share = received_at(record), from_millis(record.timestamp), share_of(record.headers)
    try:
        parsed = _parse_as_received(record.value, record, received, aliases, share)
        # Meta knew of it later than ingest says it was sent: ingest's clock is behind, and the broker's counts.
        if received < stamp and any(event.event_at - received > TOLERANCE for event in parsed.events):
            parsed = _parse_as_received(record.value, record, stamp, aliases, share)
    except UnreadableDelivery as fault:
        return str(fault) if share.is_rest else Parsed()
    return parsed


def _parse_as_received(
    body: bytes, record: Record, received: datetime, aliases: Mapping[PageId, PageId], share: Share
) -> Parsed:
    return parse_delivery(
        body,
        received_at=received,
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        aliases=aliases,
        share=share,
    )


logger = logging.getLogger(__name__)

# How often the log names what was refused.
_WARN_EVERY = timedelta(minutes=1)
_KIND_NAMES = {record: kind for kind, record in KINDS.items()}


class Splitting:
    """Raw deliveries → events, for all raw partitions of this worker."""

    def __init__(
        self,
        app: faust.App,
        settings: Settings,
        pages: Pages,
        erasures: Erasures,
        limit: DeadLetterLimit,
        metrics: Metrics,
        health: Health,
        ids: Ids,
    ) -> None:
        self._erasures = erasures
        self._app, self._settings, self._pages, self._metrics = app, settings, pages, metrics
        self._codec = event_codec(ids)
        self._events = settings.topic(EVENTS.name)
        self._webhooks = settings.topic(WEBHOOKS.name)
        dead_letters = settings.topic(WEBHOOKS.dead_letters)
        self.refusals = Refusals("split", UnreadableDelivery, dead_letters, limit, metrics, health)
        self._keeper = ProgressKeeper()
        self._plausible = PlausibleTime(now(), uptime())
        self._warned_at = uptime() - _WARN_EVERY
        self._handed_over: dict[int, tuple[datetime, datetime]] = {}

    async def split(self, partition: int, records: Sequence[Record]) -> None:
        """Raises `TooManyDeadLetters` before any of them is written."""
        await self._write(partition, records, *self._split(records))

    async def split_carefully(self, partition: int, records: Sequence[Record]) -> None:
        """The same, but a delivery whose work raises is refused. Raises `TooManyDeadLetters` likewise."""
        whole, outgoing = Split(), list[Outgoing]()
        for record in records:
            done = tried(record, partial(self._split, [record]))
            if isinstance(done, Refusal):
                whole.refused.append(done)
            else:
                whole.add(done[0])
                outgoing += done[1]
        await self._write(partition, records, whole, outgoing)

    def _split(self, records: Sequence[Record]) -> tuple[Split, list[Outgoing]]:
        done = split(records, self._pages.aliases, self._erasures, codec=self._codec)
        return done, [record for event in done.events for record in self._records_of(event)]

    async def _write(self, partition: int, records: Sequence[Record], done: Split, events: list[Outgoing]) -> None:
        letters = self.refusals.letters(done.refused, now())
        # Not waited for: the acks come while the next batch is parsed, and progress and commits wait for them.
        await producer_of(self._app).hand_over([*events, *letters])
        self._handed_over[partition] = received_at(records[-1]), from_millis(records[-1].timestamp)
        stamps = [event.event_at for event in done.events if not isinstance(event, Fact)]
        if stamps:
            self._plausible.confirm(max(stamps), now(), uptime())
        for kind, count in Counter(_KIND_NAMES[type(event)] for event in done.events).items():
            self._metrics.events_parsed.labels(kind).inc(count)
        for reason, count in done.ignored.items():
            self._metrics.items_ignored.labels(reason).inc(count)
        self.refusals.report(done.refused)

    def _records_of(self, event: JoinEvent) -> list[Outgoing]:
        value = self._codec.encode(event)
        # What concerns a Page concerns its people, who are spread over all partitions.
        partitions = range(self._settings.partitions) if event.psid is None else (None,)
        return [Outgoing(self._events, event_key(event), value, partition=partition) for partition in partitions]

    @property
    def refused(self) -> Mapping[int, timedelta]:
        """How far ahead of the plausible time the raw partitions are, where they are."""
        return self._keeper.refused

    def _warn(self) -> None:
        if self.refused and uptime() >= self._warned_at + _WARN_EVERY:
            self._warned_at = uptime()
            ahead = max(self.refused.values()).total_seconds()
            logger.error("progress.refused", extra={"partitions": sorted(self.refused), "seconds_ahead": ahead})

    async def report_progress(self) -> None:
        """Tell every partition of the events how far we are; only deadlines go by it."""
        ends = {tp.partition: at for tp, at in end_of_log(self._app).items() if tp.topic == self._webhooks}
        handed_over, self._handed_over = self._handed_over, {}
        await producer_of(self._app).flush()
        for partition, (received, stamp) in handed_over.items():
            self._keeper.read(partition, received, stamp)
        self._keeper.forget(frozenset(ends))
        wall = now()
        self._keeper.see(
            {partition: at for partition, at in ends.items() if at is not None},
            wall,
            self._plausible.at(wall, uptime()),
        )
        self._warn()
        progress = self._keeper.progress
        if progress.received_until:
            value = self._codec.encode(progress)
            await producer_of(self._app).send_all(
                [Outgoing(self._events, None, value, partition=number) for number in range(self._settings.partitions)]
            )
