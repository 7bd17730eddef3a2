"""Replay: run split and join over history in one process, into separate topics. No message is sent."""

import asyncio
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from itertools import islice

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from leads.careful import LeftOut, take_turn_carefully
from leads.erasures import NOBODY, Erasures
from leads.facts import Fact, JoinEvent, LeadPromoted, PersonErased, Progress
from leads.join import Output
from leads.pages import is_canary
from leads.person import Person
from leads.records import FetchTranscript, Lead, SendFollowUp, is_notice
from leads.rules import Policy
from leads.shard import Fold, Shard
from messenger.events import PageId, Psid, person_key
from runtime.batches import Delivery, hand_over
from runtime.kafka import partition_of
from runtime.topic_reading import read_runs
from schemas.codec import BUILT_IN, Ids, event_codec
from schemas.topics import EVENTS, JOIN_STATE, Topic
from streams.dead_letters import tried
from streams.join import Outlet
from streams.records import Outgoing, Record, Refusal, event_key, received_at
from streams.replay.plan import Plan
from streams.split import Split, is_fact, split
from streams.state import PEOPLE

# Batches of up to 256 KB each.
_IN_FLIGHT = 128
_STATES_AT_ONCE = 1000


@dataclass(slots=True)
class Tally:
    """Counts of what a replay read and published; it sends no command and asks for no transcript."""

    webhooks: int = 0
    events: int = 0
    facts: int = 0
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
                self.commands += not is_notice(output)
            case FetchTranscript():
                self.transcript_requests += 1


class Rejoin:
    """The live path's split and join, for the partitions of the log in any order of turns.

    One shard does for all partitions, because the join looks at one person at a time.
    """

    def __init__(
        self,
        policy_of: Callable[[PageId], Policy],
        aliases: Mapping[PageId, PageId],
        *,
        partitions: int,
        page_id: PageId | None = None,
        psid: Psid | None = None,
        erasures: Erasures = NOBODY,
        ids: Ids = BUILT_IN,
    ) -> None:
        self._erasures = erasures
        self._aliases, self._page_id, self._psid = aliases, page_id, psid
        self._people: dict[str, Person] = {}
        self._shard = Shard(
            self._people,
            policy_of,
            raw_partition_of=lambda page_id: partition_of(page_id.encode(), partitions),
        )
        self._codec = event_codec(ids)
        self._taken = 0
        self.tally = Tally()

    def take(self, records: Sequence[Record]) -> tuple[list[JoinEvent], list[Output]]:
        """The events of the next records of a partition, and what the join makes of them."""
        done = Split()
        for record in records:
            parsed = tried(record, partial(split, [record], self._aliases, self._erasures, codec=self._codec))
            done.add(Split(refused=[parsed]) if isinstance(parsed, Refusal) else parsed)
        events = [event for event in done.events if self._is_wanted(event)]
        facts = sum(isinstance(event, Fact) for event in events)
        self.tally.webhooks += sum(not is_fact(record) for record in records)
        self.tally.events += len(events) - facts
        self.tally.facts += facts
        self.tally.unreadable += len(done.refused)
        self.tally.ignored.update(done.ignored)
        return events, self._join(events)

    def pass_time(self, raw_partition: int, until: datetime) -> list[Output]:
        """The outputs of deadlines up to `until`, when no further record of the partition was received before it."""
        return self._join([Progress(((raw_partition, until),))])

    def _join(self, events: Sequence[JoinEvent | Progress]) -> list[Output]:
        fold, left_out = Fold(), list[LeftOut]()
        for turn in self._shard.order(enumerate(events, start=self._taken), fold):
            # What raises is left out, as the live join leaves it out once it has ended there a few times.
            self._shard.settle(turn, take_turn_carefully(turn, bool, left_out), fold)
        self._taken += len(events)
        self.tally.ignored.update(fold.ignored)
        self.tally.unreadable += len(left_out)
        return fold.outputs

    @property
    def people(self) -> Collection[Person]:
        """The present state of the join."""
        return self._people.values()

    def _is_wanted(self, event: JoinEvent) -> bool:
        # The register says what is erased, and a promotion of yesterday's code must not hide what today's makes of it.
        if isinstance(event, PersonErased | LeadPromoted):
            return False
        if is_canary(event.page_id):
            return False
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
    shadow = _Shadow(plan, rejoin.tally, producer, name_of, ids)
    async for records in read_runs(consumer, plan.spans):
        wanted = [record for record in records if received_at(record) < plan.until]
        await shadow.write(*rejoin.take(wanted))
        on_read(len(records))
    for partition in plan.spans:
        await shadow.write([], rejoin.pass_time(partition.partition, plan.until))
    await shadow.remember(rejoin.people)
    await shadow.flush()
    return rejoin.tally


class _Shadow:
    """Writes what is not warm-up, and counts it."""

    def __init__(
        self, plan: Plan, tally: Tally, producer: AIOKafkaProducer, name_of: Callable[[Topic], str], ids: Ids
    ) -> None:
        self._since, self._tally, self._producer = plan.since, tally, producer
        self._events_topic, self._codec = name_of(EVENTS), event_codec(ids)
        self._state_topic = name_of(JOIN_STATE)
        self._outlet = Outlet(name_of, ids)
        self._sent: list[Delivery] = []

    async def write(self, events: Sequence[JoinEvent], outputs: Sequence[Output]) -> None:
        concluded = [output for output in outputs if concluded_at(output) >= self._since]
        for output in concluded:
            self._tally.count(output)
        await self._hand_over(
            [
                *(self._event(event) for event in events if event.received_at >= self._since),
                *map(self._outlet.outgoing, concluded),
            ]
        )

    async def remember(self, people: Collection[Person]) -> None:
        """Write what the join knows of leads at the end, for a promotion to hand over."""
        states = (self._state(person) for person in people if person.leads)
        while some := list(islice(states, _STATES_AT_ONCE)):
            await self._hand_over(some)

    async def flush(self) -> None:
        """Wait until all is durable. Raises `KafkaError`."""
        await asyncio.gather(*self._sent)
        self._sent.clear()

    async def _hand_over(self, records: Sequence[Outgoing]) -> None:
        await hand_over(self._producer, records, self._sent.append)
        if len(self._sent) >= _IN_FLIGHT:
            await self.flush()

    def _event(self, event: JoinEvent) -> Outgoing:
        return Outgoing(self._events_topic, event_key(event), self._codec.encode(event))

    def _state(self, person: Person) -> Outgoing:
        key = person_key(person.page_id, person.psid).encode()
        return Outgoing(self._state_topic, key, PEOPLE.encode(person))


def concluded_at(output: Output) -> datetime:
    """The time of receipt, or the deadline, at which the join gave an output."""
    match output:
        case Lead():
            return output.updated_at
        case SendFollowUp():
            return output.created_at
        case FetchTranscript():
            return output.requested_at
