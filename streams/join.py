"""Join: the event records of one partition → lead revisions, commands, transcript requests, and the new state."""

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, MutableMapping, Sequence
from datetime import datetime
from functools import partial
from typing import NamedTuple, TypeVar

import faust
from aiokafka import TopicPartition

from leads.bounds import EVENT_BYTES
from leads.canary import policies
from leads.careful import LeftOut, take_turn_carefully
from leads.erasures import NOBODY, Erasures
from leads.facts import JoinEvent, Progress
from leads.join import Output, Step
from leads.pages import Pages, is_canary
from leads.person import without_offsets
from leads.records import FetchTranscript, Lead, SendFollowUp, is_notice
from leads.rules import Policy, Rule
from leads.shard import Fold, Shard
from leads.turns import Turn, take_turn
from messenger.events import PageId, person_key
from runtime.clock import from_millis, now
from runtime.dead_letter import DeadLetterLimit
from runtime.health import Health
from runtime.kafka import partition_of
from runtime.metrics import Metrics
from runtime.reach import Reach
from runtime.settings import Settings
from runtime.suspect import RAISED, place_of
from schemas.codec import BUILT_IN, Ids, NotDecodable, command_codec, event_codec, lead_codec, transcript_request_codec
from schemas.topics import COMMANDS, EVENTS, LEADS, TRANSCRIPTS, Topic
from streams.dead_letters import Refusals, tried
from streams.engine.store import PartitionStore
from streams.engine.transport import consumer_of, producer_of
from streams.people import StoredStates
from streams.progress import CLOCK_SKEW
from streams.records import Outgoing, Record, Refusal
from streams.state import PAGES, PEOPLE

logger = logging.getLogger(__name__)

T = TypeVar("T")


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
    """The state of one partition of `messenger-events`, and how its batches are joined.

    One `Batch` at a time works on it. It changes nothing in the store: the caller does, after the changelog has the
    changes.
    """

    def __init__(
        self,
        stored: MutableMapping[str, bytes],
        policy_of: Callable[[PageId], Policy],
        settings: Settings,
        ids: Ids = BUILT_IN,
        erasures: Erasures = NOBODY,
    ) -> None:
        self.erasures = erasures
        self.people = StoredStates(stored, PEOPLE)
        self.pages = StoredStates(stored, PAGES, of_pages=True)
        self.shard = Shard(
            self.people,
            policy_of,
            raw_partition_of=lambda page_id: partition_of(page_id.encode(), settings.partitions),
            pages=self.pages,
            wake_at_of=self.people.wake_at,
        )
        self.events = event_codec(ids)
        self.outlet = Outlet(lambda topic: settings.topic(topic.name), ids)


class Batch:
    """A batch of one partition on its way through the join; the steps are called in the order in which they stand here.

    The first three are lazy: each takes a record from the step before it when the next step asks. With `carefully`,
    an exception of one record or of one person is refused, and the rest goes on; without, it is raised, and then
    the partition's `PartitionJoin` must not be used any more.
    """

    def __init__(self, join: PartitionJoin, *, carefully: bool = False) -> None:
        self._join, self._carefully = join, carefully
        self.fold = Fold()
        self.ignored: Counter[str] = Counter()
        self.refused: list[Refusal] = []

    def decode(self, records: Iterable[Record]) -> Iterator[tuple[Record, JoinEvent | Progress | None]]:
        """The events of the records; unreadable and oversized records are refused, the dead ignored."""
        for record in records:
            event = self._attempt(record, partial(self._event_of, record))
            if isinstance(event, Refusal):
                self.refused.append(event)
            # A worker that died reads again what it had joined before the erasure.
            elif event is not None and not isinstance(event, Progress) and self._join.erasures.kill(event):
                self.ignored["erased"] += 1
            else:
                yield record, event

    def order(self, events: Iterable[tuple[Record, JoinEvent | Progress | None]]) -> Iterator[tuple[Record, Turn]]:
        """The turns of people that each record brings."""
        for record, event in events:
            turns = self._join.shard.order([(record.offset, event)], self.fold)
            while (turn := self._attempt(record, partial(next, turns, None))) is not None:
                if isinstance(turn, Refusal):
                    self.refused.append(turn)
                    break
                yield record, turn

    def advance(self, turns: Iterable[tuple[Record, Turn]]) -> Iterator[Output]:
        """Take each turn: the state moves on, and the outputs come out."""
        for record, turn in turns:
            before = len(self.fold.outputs)
            if self._carefully:
                left_out: list[LeftOut] = []
                steps = take_turn_carefully(turn, self._try, left_out)
                self.refused += [self._refusal_of(fault, record) for fault in left_out]
            else:
                steps = [take_turn(turn)]
            self._join.shard.settle(turn, steps, self.fold)
            yield from self.fold.outputs[before:]

    def encode(self, outputs: Iterable[Output]) -> list[Outgoing]:
        """The records to publish. After this step every record of the batch has been worked on."""
        return [self._join.outlet.outgoing(output) for output in outputs]

    def take_changes(self) -> list[tuple[str, bytes | None]]:
        """The changes of state, for the changelog once all outputs are acked.

        Pages come last: after a crash before a Page's record, the block is applied again to everyone.
        """
        return [*self._join.people.take_changes(), *self._join.pages.take_changes()]

    def _attempt(self, record: Record, work: Callable[[], T]) -> T | Refusal:
        return tried(record, work) if self._carefully else work()

    def _event_of(self, record: Record) -> JoinEvent | Progress | Refusal | None:
        if record.value is not None and len(record.value) > EVENT_BYTES:
            return Refusal(record, f"larger than {EVENT_BYTES} bytes")
        try:
            event = self._join.events.decode(record.value)
        except NotDecodable as fault:
            return Refusal(record, str(fault))
        return within_append(event, from_millis(record.timestamp)) if isinstance(event, Progress) else event

    def _try(self, step: Step) -> None:
        self._join.people.try_encoding(step.person)
        for output in step.outputs:
            self._join.outlet.outgoing(output)

    def _refusal_of(self, left_out: LeftOut, record: Record) -> Refusal:
        """The dead letter of an event, or of the record that brought a deadline due, under the person's key."""
        person, event, fault = left_out
        source = "a deadline" if event is None else type(event).__name__
        key = person_key(person.page_id, person.psid).encode()
        letter = SetAside(
            record.topic, record.partition, record.offset, record.timestamp, key, record.value, record.headers
        )
        return Refusal(letter, f"{source} {RAISED} {place_of(fault)}", type(fault).__name__)


def within_append(progress: Progress, appended_at: datetime) -> Progress:
    """The progress as far as the broker's clock allows it, whatever the splitter's clock said."""
    latest = appended_at - CLOCK_SKEW
    return Progress(tuple((partition, min(time, latest)) for partition, time in progress.received_until))


def _action(command: SendFollowUp) -> str:
    if is_notice(command):
        return "notice"
    return "cancelled" if command.cancel_reason else "issued"


def _key_of(output: SendFollowUp | FetchTranscript) -> bytes:
    return person_key(output.page_id, output.psid).encode()


class Joins:
    """The joins of all partitions of this worker; a rebalance makes them anew from the store."""

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
        self._policy_of = policies(pages, rules)
        self._joins: dict[int, PartitionJoin] = {}
        self._epoch = store.epoch

    async def of(self, partition: int) -> PartitionJoin:
        """The join of a partition, which knows no offset of a topic that was made anew."""
        ours = (self._settings.topic(EVENTS.name), self._store.changelog_topic_name)
        # Of all partitions at the first batch of any, so that no later start finds one that still knows the old topic.
        for number in sorted({tp.partition for tp in self._app.reach.anew if tp.topic in ours}):
            await self._let_go_of_old_topics(number)
        return self._join_of(partition)

    async def publish(self, outgoing: Sequence[Outgoing], refused: Sequence[Refusal]) -> None:
        """Write outputs and dead letters; they are durable at the end.

        Raises `TooManyDeadLetters` before any of them is written, and `DeliveryFailed`.
        """
        letters = self.refusals.letters(refused, now())
        await producer_of(self._app).send_all([*outgoing, *letters])

    async def write_changelog(self, partition: int, changes: Sequence[tuple[str, bytes | None]]) -> None:
        """Make the changes durable, then put them into the store. Raises `DeliveryFailed`."""
        changelog = self._store.changelog_topic_name
        await producer_of(self._app).send_all(
            [Outgoing(changelog, key.encode(), value, None, partition) for key, value in changes]
        )
        for key, value in changes:
            self._store.put(partition, key, value)

    def count(self, batch: Batch) -> None:
        """Count and log what is durable now."""
        moment = now()
        leads = [output for output in batch.fold.outputs if isinstance(output, Lead)]
        commands = [output for output in batch.fold.outputs if isinstance(output, SendFollowUp)]
        for (outcome, closed), count in Counter((lead.outcome, lead.closed) for lead in leads).items():
            self._metrics.lead_revisions.labels(outcome, str(closed).lower()).inc(count)
        for lead in leads:
            self._metrics.lead_latency_seconds.observe((moment - lead.updated_at).total_seconds())
        issued = Counter(_action(command) for command in commands if not is_canary(command.page_id))
        for action, count in issued.items():
            self._metrics.followups_planned.labels(action).inc(count)
        for reason, count in (batch.ignored + Counter(batch.fold.ignored)).items():
            self._metrics.items_ignored.labels(reason).inc(count)
        for page_id, count in Counter(batch.fold.shed).items():
            self._metrics.join_state_shed.inc(count)
            logger.warning("state.shed", extra={"page": page_id, "count": count})
        self.refusals.report(batch.refused)

    async def _let_go_of_old_topics(self, partition: int) -> None:
        """Forget the offsets of topics that were made anew, before a record of theirs is taken for a known one."""
        reach: Reach = self._app.reach
        events = self._settings.topic(EVENTS.name)
        ours = [TopicPartition(topic, partition) for topic in (events, self._store.changelog_topic_name)]
        topics = reach.made_anew(ours)
        if not topics:
            return
        stored, of_events = self._store.parts[partition], events in topics
        people = StoredStates(stored, PEOPLE)
        pages = StoredStates(stored, PAGES, of_pages=True)
        for key in list(people):
            people[key] = without_offsets(people[key], topics, of_events=of_events)
        for key in list(pages):
            pages[key] = without_offsets(pages[key], topics, of_events=of_events)
        await self.write_changelog(partition, [*people.take_changes(), *pages.take_changes()])
        # Only now, so that a worker that dies before does it again, with nothing joined in between.
        await consumer_of(self._app).thread.know_topics(ours)
        reach.is_known(ours)
        self._joins.pop(partition, None)
        logger.warning("state.of_old_topics_forgotten", extra={"partition": partition, "topics": sorted(topics)})

    def _join_of(self, partition: int) -> PartitionJoin:
        if self._epoch != self._store.epoch:
            self._joins.clear()
            self._epoch = self._store.epoch
        if partition not in self._joins:
            self._joins[partition] = PartitionJoin(
                self._store.parts[partition], self._policy_of, self._settings, self._ids, self._erasures
            )
        return self._joins[partition]
