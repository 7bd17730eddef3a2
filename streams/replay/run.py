"""Replay: run split and join over history in one process, into separate topics. No message is sent."""

import asyncio
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from leads.careful import LeftOut, take_turn_carefully
from leads.erasures import NOBODY, Erasures
from leads.facts import Fact, JoinEvent, Progress
from leads.join import Output
from leads.ordering import Fold, Shard
from leads.person import Person
from leads.records import FetchTranscript, Lead, SendFollowUp
from leads.rules import Policy
from messenger.events import PageId, Psid, person_key
from schemas.codec import BUILT_IN, Ids, NotDecodable, event_codec
from schemas.topics import EVENTS, JOIN_STATE, Topic
from streams.dead_letters import tried
from streams.join import Outlet, as_received
from streams.records import Outgoing, Record, Refusal, event_key, received_at
from streams.replay.merge import in_order_of_receipt
from streams.replay.plan import Plan
from streams.split import Split, split
from streams.state import PEOPLE

_IN_FLIGHT = 10_000
_FACTS = frozenset({"transcript", "lead_recovered"})


@dataclass(slots=True)
class Tally:
    """Counts of what a replay read and published; it sends no command and asks for no transcript."""

    webhooks: int = 0
    events: int = 0
    transcripts: int = 0
    unreadable: int = 0
    revisions: int = 0
    commands: int = 0
    transcript_requests: int = 0
    ignored: Counter[str] = field(default_factory=Counter)

    def count(self, output: Output) -> None:
        match output:
            case Lead():
                self.revisions += 1
            case SendFollowUp():
                self.commands += 1
            case FetchTranscript():
                self.transcript_requests += 1


class Rejoin:
    """The live path's split and join, for a log that comes in the order of receipt.

    One shard does for all partitions, because the join looks at one person at a time; and where everything up to a
    record has been read, that record's time is the progress.
    """

    def __init__(
        self,
        policy_of: Callable[[PageId], Policy],
        aliases: Mapping[PageId, PageId],
        *,
        page_id: PageId | None = None,
        psid: Psid | None = None,
        erasures: Erasures = NOBODY,
    ) -> None:
        self._erasures = erasures
        self._aliases, self._page_id, self._psid = aliases, page_id, psid
        self._people: dict[str, Person] = {}
        self._shard = Shard(self._people, policy_of, raw_partitions=1)
        self._taken = 0
        self.tally = Tally()

    def take(
        self, webhooks: Sequence[Record], facts: Sequence[Fact], until: datetime
    ) -> tuple[list[JoinEvent], list[Output]]:
        """The events of these webhooks, and what the join makes of all that was received before `until`."""
        done = Split()
        for webhook in webhooks:
            parsed = tried(webhook, partial(split, [webhook], self._aliases, self._erasures))
            done.add(Split(refused=[parsed]) if isinstance(parsed, Refusal) else parsed)
        events = [event for event in done.events if self._is_wanted(event)]
        told = [fact for fact in facts if self._is_wanted(fact) and not self._erasures.kill(fact)]
        numbered: list[tuple[int, JoinEvent | Progress | None]] = list(enumerate([*events, *told], start=self._taken))
        self._taken += len(numbered)
        fold, left_out = Fold(), list[LeftOut]()
        for turn in self._shard.order([*numbered, (self._taken, Progress(((0, until),)))], fold):
            # What raises is left out, as the live join leaves it out once it has ended there a few times.
            self._shard.settle(turn, take_turn_carefully(turn, bool, left_out), fold)
        self.tally.webhooks += len(webhooks)
        self.tally.events += len(events)
        self.tally.transcripts += len(told)
        self.tally.unreadable += len(done.refused)
        self.tally.ignored.update(done.ignored)
        self.tally.ignored.update(fold.ignored)
        self.tally.unreadable += len(left_out)
        return [*events, *told], fold.outputs

    @property
    def people(self) -> Collection[Person]:
        """The present state of the join."""
        return self._people.values()

    def _is_wanted(self, event: JoinEvent) -> bool:
        # What Meta says of a Page concerns its people too.
        return self._page_id in (None, event.page_id) and (event.psid is None or self._psid in (None, event.psid))


async def replay(
    plan: Plan,
    rejoin: Rejoin,
    consumer: AIOKafkaConsumer,
    producer: AIOKafkaProducer,
    name_of: Callable[[Topic], str],
    on_read: Callable[[int], None],
    ids: Ids = BUILT_IN,
) -> Tally:
    """Read what the plan says, at full speed, and write to the topics that `name_of` names; all is durable at the end.

    What the join concludes before `plan.since` is only warm-up and is not written. `on_read` gets counts of records.
    """
    facts, shadow = _Facts(plan, ids), _Shadow(plan, rejoin.tally, producer, name_of, ids)
    spans = {**plan.webhooks, **plan.facts}

    def is_wanted(record: Any) -> bool:
        return received_at(record) < plan.until and facts.may_be_wanted(record)

    async for run in in_order_of_receipt(consumer, spans, on_read, is_wanted):
        webhooks = [record for record in run if not facts.has(record)]
        told = [fact for record in run if facts.has(record) and (fact := facts.read(record)) is not None]
        await shadow.write(*rejoin.take(webhooks, told, received_at(run[-1])))
    await shadow.write(*rejoin.take([], [], plan.until))
    await shadow.remember(rejoin.people)
    await shadow.flush()
    return rejoin.tally


class _Facts:
    """Our own facts among the records of `messenger-events`; all else there is made anew from the webhooks."""

    def __init__(self, plan: Plan, ids: Ids) -> None:
        self._topics = {partition.topic for partition in plan.facts}
        self._codec = event_codec(ids)

    def has(self, record: Any) -> bool:
        """Whether the record lies in the topic that facts come from."""
        return record.topic in self._topics

    def may_be_wanted(self, record: Any) -> bool:
        """Whether the record is a webhook or a fact, at a glance."""
        try:
            return not self.has(record) or self._codec.decode_first(record.value) in _FACTS
        except NotDecodable:
            return False

    def read(self, record: Any) -> Fact | None:
        """The fact as the live join took it in; None for what it refused."""
        try:
            event = as_received(self._codec.decode(record.value), record)
        except NotDecodable:
            return None
        return event if isinstance(event, Fact) else None


class _Shadow:
    """Writes what is not warm-up, and counts it."""

    def __init__(
        self, plan: Plan, tally: Tally, producer: AIOKafkaProducer, name_of: Callable[[Topic], str], ids: Ids
    ) -> None:
        self._since, self._tally, self._producer = plan.since, tally, producer
        self._events_topic, self._codec = name_of(EVENTS), event_codec(ids)
        self._state_topic = name_of(JOIN_STATE)
        self._outlet = Outlet(name_of, ids)
        self._sent: list[asyncio.Future[Any]] = []

    async def write(self, events: Sequence[JoinEvent], outputs: Sequence[Output]) -> None:
        for event in events:
            if event.received_at >= self._since:
                await self._send(Outgoing(self._events_topic, event_key(event), self._codec.encode(event)))
        for output in outputs:
            if concluded_at(output) >= self._since:
                await self._send(self._outlet.outgoing(output))
                self._tally.count(output)

    async def remember(self, people: Collection[Person]) -> None:
        """Write what the join knows of leads at the end, for a promotion to hand over."""
        for person in people:
            if person.leads:
                key = person_key(person.page_id, person.psid).encode()
                await self._send(Outgoing(self._state_topic, key, PEOPLE.encode(person)))

    async def flush(self) -> None:
        """Wait until all is durable. Raises `KafkaError`."""
        await asyncio.gather(*self._sent)
        self._sent.clear()

    async def _send(self, record: Outgoing) -> None:
        self._sent.append(await self._producer.send(record.topic, record.value, key=record.key))
        if len(self._sent) >= _IN_FLIGHT:
            await self.flush()


def concluded_at(output: Output) -> datetime:
    """The time of receipt, or the deadline, at which the join gave an output."""
    match output:
        case Lead():
            return output.updated_at
        case SendFollowUp():
            return output.created_at
        case FetchTranscript():
            return output.requested_at
