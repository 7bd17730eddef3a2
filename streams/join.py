"""Join: a run of event records of one partition → lead revisions, commands, transcript requests, and the new state."""

import logging
from collections import Counter
from collections.abc import Callable, MutableMapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from typing import NamedTuple

import faust
from aiokafka import TopicPartition

from leads.bounds import EVENT_BYTES
from leads.careful import LeftOut
from leads.erasures import NOBODY, Erasures
from leads.facts import Fact, JoinEvent, LeadPromoted, PersonErased, Progress
from leads.join import Output, Step
from leads.ordering import OF_A_PAGE, Fold, Shard, without_offsets
from leads.pages import Pages
from leads.records import FetchTranscript, Lead, SendFollowUp
from leads.rules import Policy, Rule
from messenger.events import Origin, PageId, person_key
from runtime.clock import from_millis, now, to_millis
from runtime.dead_letter import DeadLetterLimit
from runtime.health import Health
from runtime.metrics import Metrics
from runtime.reach import Reach
from runtime.settings import Settings
from runtime.suspect import RAISED, Suspect, place_of
from schemas.codec import BUILT_IN, Ids, NotDecodable, command_codec, event_codec, lead_codec, transcript_request_codec
from schemas.state import person_codec
from schemas.topics import COMMANDS, EVENTS, LEADS, TRANSCRIPTS, Topic
from streams.dead_letters import Refusals, tried
from streams.engine.store import PartitionStore
from streams.engine.transport import consumer_of, producer_of
from streams.people import StoredPeople
from streams.progress import CLOCK_SKEW
from streams.records import Outgoing, Record, Refusal


@dataclass(slots=True)
class Joined:
    """What a run of records gave: `outputs` to be acked before `changes` go to the changelog, by key."""

    outputs: list[Outgoing] = field(default_factory=list)
    changes: list[tuple[bytes, bytes | None]] = field(default_factory=list)
    published: list[Output] = field(default_factory=list)
    ignored: Counter[str] = field(default_factory=Counter)
    shed: Counter[tuple[str, PageId]] = field(default_factory=Counter)
    refused: list[Refusal] = field(default_factory=list)


class SetAside(NamedTuple):
    """A `Record` of what was left out of a person."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]


class Outlet:
    """Encodes what the join gives, for the topics that `name_of` names."""

    def __init__(self, name_of: Callable[[Topic], str], ids: Ids = BUILT_IN) -> None:
        self._name_of = name_of
        self._leads, self._commands = lead_codec(ids), command_codec(ids)
        self._transcripts = transcript_request_codec(ids)

    def outgoing(self, output: Output) -> Outgoing:
        match output:
            case Lead():
                return Outgoing(self._name_of(LEADS), output.lead_id.encode(), self._leads.encode(output))
            case SendFollowUp():
                return Outgoing(self._name_of(COMMANDS), _key_of(output), self._commands.encode(output))
            case FetchTranscript():
                return Outgoing(self._name_of(TRANSCRIPTS), _key_of(output), self._transcripts.encode(output))


class PartitionJoin:
    """The join of one partition of `messenger-events`, over the state that its store holds.

    `join` changes nothing in the store: the caller does, after the changelog has the changes.
    """

    def __init__(
        self,
        stored: MutableMapping[bytes, bytes],
        policy_of: Callable[[PageId], Policy],
        settings: Settings,
        ids: Ids = BUILT_IN,
        erasures: Erasures = NOBODY,
    ) -> None:
        self._erasures = erasures
        self._people = StoredPeople(stored, person_codec())
        self._shard = Shard(self._people, policy_of, raw_partitions=settings.partitions, wakes=self._people.wakes())
        self._events = event_codec(ids)
        self._outlet = Outlet(lambda topic: settings.topic(topic.name), ids)

    @property
    def clock(self) -> datetime | None:
        """Everything received before this has been joined."""
        return self._shard.clock

    @property
    def lags(self) -> dict[int, timedelta]:
        """How far behind each raw partition is, which the clock waits for."""
        return self._shard.lags

    def join(self, records: Sequence[Record]) -> Joined:
        done = Joined()
        fold = self._shard.fold(self._living(records, done))
        self._publish(fold, done)
        done.changes = sorted(self._people.take_changes(), key=_is_of_a_page)
        return done

    def join_carefully(self, records: Sequence[Record]) -> Joined:
        """The same, but what raises is left out, record by record and person by person, and is refused."""
        done = Joined()
        for record in records:
            fold = tried(record, partial(self._fold_carefully, record, done))
            if isinstance(fold, Refusal):
                done.refused.append(fold)
                continue
            self._publish(fold, done)
            done.refused += [self._refusal_of(left_out, record) for left_out in fold.left_out]
        done.changes = sorted(self._people.take_changes(), key=_is_of_a_page)
        return done

    def _living(self, records: Sequence[Record], done: Joined) -> list[tuple[int, JoinEvent | Progress | None]]:
        events: list[tuple[int, JoinEvent | Progress | None]] = []
        for record in records:
            if record.value is not None and len(record.value) > EVENT_BYTES:
                done.refused.append(Refusal(record, f"larger than {EVENT_BYTES} bytes"))
                continue
            try:
                event = as_received(self._events.decode(record.value), record)
            except NotDecodable as fault:
                done.refused.append(Refusal(record, str(fault)))
                continue
            # A worker that died reads again what it had joined before the erasure.
            if event is not None and not isinstance(event, Progress) and self._erasures.kill(event):
                done.ignored["erased"] += 1
            else:
                events.append((record.offset, event))
        return events

    def _fold_carefully(self, record: Record, done: Joined) -> Fold:
        return self._shard.fold(self._living([record], done), self._try)

    def _try(self, step: Step) -> None:
        self._people.try_encoding(step.person)
        for output in step.outputs:
            self._outlet.outgoing(output)

    def _publish(self, fold: Fold, done: Joined) -> None:
        done.outputs += [self._outlet.outgoing(output) for output in fold.outputs]
        done.published += fold.outputs
        done.ignored.update(fold.ignored)
        done.shed.update(fold.shed)

    def _refusal_of(self, left_out: LeftOut, record: Record) -> Refusal:
        """The dead letter of an event, or of the record that brought a deadline due. An event that waited for its
        turn no longer knows its own offset, so the letter has that of the record that gave it its turn."""
        person, event, fault = left_out
        value = record.value if event is None else self._events.encode(event)
        what = "a deadline" if event is None else type(event).__name__
        key = person_key(person.page_id, person.psid).encode()
        letter = SetAside(record.topic, record.partition, record.offset, record.timestamp, key, value, record.headers)
        return Refusal(letter, f"{what} {RAISED} {place_of(fault)}", type(fault).__name__)


def as_received(event: JoinEvent | Progress | None, record: Record) -> JoinEvent | Progress | None:
    """The event with its time of receipt: a fact of ours came in when the broker appended it, like a webhook.

    One that nobody asked for gets its own record as its origin. Progress that lies before a fact in its partition is
    older by the same clock, so it never comes too late for its turn. For the same reason no progress counts for more
    than the broker's clock allows, whatever the splitter's clock said.
    """
    appended_at = from_millis(record.timestamp)
    if isinstance(event, PersonErased):
        return replace(event, received_at=appended_at)
    if isinstance(event, Fact | LeadPromoted):
        itself = Origin(record.topic, record.partition, record.offset)
        return replace(event, received_at=appended_at, origin=itself if event.origin.offset < 0 else event.origin)
    if isinstance(event, Progress):
        latest = appended_at - CLOCK_SKEW
        return Progress(tuple((partition, min(time, latest)) for partition, time in event.received_until))
    return event


def _is_of_a_page(change: tuple[bytes, bytes | None]) -> bool:
    """A Page's block is done with when all of its people are: who dies before that has it before them again."""
    return change[0].endswith(OF_A_PAGE.encode())


def _key_of(output: SendFollowUp | FetchTranscript) -> bytes:
    return person_key(output.page_id, output.psid).encode()


logger = logging.getLogger(__name__)


class Joining:
    """Events → leads and commands, for all partitions of this worker."""

    def __init__(
        self,
        app: faust.App,
        store: PartitionStore,
        settings: Settings,
        pages: Pages,
        rules: tuple[Rule, ...],
        erasures: Erasures,
        limit: DeadLetterLimit,
        metrics: Metrics,
        health: Health,
        ids: Ids,
    ) -> None:
        self._app, self._store, self._settings, self._ids = app, store, settings, ids
        self._metrics, self._erasures = metrics, erasures
        self.refusals = Refusals("join", NotDecodable, settings.topic(EVENTS.dead_letters), limit, metrics, health)
        self._policy_of: Callable[[PageId], Policy] = lambda page_id: Policy(pages.get(page_id), rules)
        self._joins: dict[int, PartitionJoin] = {}
        self._epoch = store.epoch

    async def join(self, partition: int, records: Sequence[Record]) -> None:
        """Raises `TooManyDeadLetters` before any of them is written."""
        await self._let_go_of_old_topics(partition)
        await self._write(partition, self._join_of(partition).join(records))

    async def join_carefully(self, partition: int, records: Sequence[Record]) -> None:
        """The same, but what raises is left out and refused. Raises `TooManyDeadLetters` likewise."""
        await self._let_go_of_old_topics(partition)
        await self._write(partition, self._join_of(partition).join_carefully(records))

    async def _let_go_of_old_topics(self, partition: int) -> None:
        """Forget the offsets of topics that were made anew, before a record of theirs is taken for a known one."""
        reach: Reach = self._app.reach
        events = self._settings.topic(EVENTS.name)
        ours = [TopicPartition(topic, partition) for topic in (events, self._store.changelog_topic_name)]
        topics = reach.made_anew(ours)
        if not topics:
            return
        codec, stored = person_codec(), self._store.parts[partition]
        people = {
            key: without_offsets(codec.decode(value), topics, of_events=events in topics)
            for key, value in stored.items()
        }
        await self._keep(partition, [(key, codec.encode(person)) for key, person in people.items()])
        # Only now, so that a worker that dies before does it again, with nothing joined in between.
        await consumer_of(self._app).thread.know_topics(ours)
        reach.is_known(ours)
        self._joins.pop(partition, None)
        logger.warning("state.of_old_topics_forgotten", extra={"partition": partition, "topics": sorted(topics)})

    def is_past(self, partition: int, suspect: Suspect) -> bool:
        """Whether all that was due when the suspected records came has had its turn: it may wait for later ones."""
        clock = self._join_of(partition).clock
        return clock is not None and to_millis(clock) > suspect.until

    async def _write(self, partition: int, done: Joined) -> None:
        letters = self.refusals.letters(done.refused, now())
        producer = producer_of(self._app)
        await producer.send_all([*done.outputs, *letters])
        await self._keep(partition, done.changes)
        self._count(done)

    async def _keep(self, partition: int, changes: Sequence[tuple[bytes, bytes | None]]) -> None:
        changelog = self._store.changelog_topic_name
        outgoing = [Outgoing(changelog, key, value, None, partition) for key, value in changes]
        await producer_of(self._app).send_all(outgoing)
        for key, value in changes:
            self._store.put(partition, key, value)

    def clock_lags(self) -> dict[int, timedelta]:
        """How far behind each raw partition is, for the partition of ours that waits the longest for it."""
        every = [one.lags for one in self._joins.values()] if self._epoch == self._store.epoch else []
        return {raw: max(lags[raw] for lags in every if lags) for raw in next(filter(None, every), {})}

    def _join_of(self, partition: int) -> PartitionJoin:
        if self._epoch != self._store.epoch:
            self._joins.clear()
            self._epoch = self._store.epoch
        if partition not in self._joins:
            self._joins[partition] = PartitionJoin(
                self._store.parts[partition], self._policy_of, self._settings, self._ids, self._erasures
            )
        return self._joins[partition]

    def _count(self, done: Joined) -> None:
        moment = now()
        for output in done.published:
            match output:
                case Lead():
                    self._metrics.lead_revisions.labels(output.outcome, str(output.closed).lower()).inc()
                    self._metrics.lead_latency_seconds.observe((moment - output.updated_at).total_seconds())
                case SendFollowUp():
                    self._metrics.followups_planned.labels("cancelled" if output.cancel_reason else "issued").inc()
                case FetchTranscript():
                    pass
        for reason, count in done.ignored.items():
            self._metrics.items_ignored.labels(reason).inc(count)
        for (what, page_id), count in done.shed.items():
            self._metrics.join_state_shed.labels(what).inc(count)
            logger.warning("state.shed", extra={"what": what, "page": page_id, "count": count})
        self.refusals.tell(done.refused)
