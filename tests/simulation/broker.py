"""A Kafka in memory: logs, stamps, consumer groups, and requests that take their time or are lost."""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError, RequestTimedOutError
from aiokafka.structs import OffsetAndMetadata

from runtime.clock import to_millis
from schemas.topics import ERASURES, EVENTS, OUTCOMES, STAGES, WEBHOOKS
from tests.simulation.loop import SimulatedLoop, current_process
from tests.simulation.timeline import Timeline

T = TypeVar("T")

_STAMPED_BY_BROKER = {topic.name for topic in (WEBHOOKS, EVENTS, OUTCOMES, ERASURES, STAGES)}
_REQUEST_SECONDS = 3.0
SESSION = 10.0
Headers = tuple[tuple[str, bytes], ...]


class Stored(NamedTuple):
    """A record as a consumer gets it."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Headers = ()


class Draft(NamedTuple):
    """A record as a producer gives it; `created` is the stamp of the producer's clock."""

    key: bytes | None
    value: bytes | None
    headers: Headers
    created: int


@dataclass(eq=False)
class Member:
    """A member of a group, as the coordinator knows it."""

    name: str
    topics: Sequence[str]
    generation: int = -1
    heard_at: float = 0.0
    joined: "asyncio.Future[tuple[int, list[TopicPartition]]] | None" = None


@dataclass(eq=False)
class Group:
    """A consumer group: its members by name, and the offsets that it has committed."""

    members: dict[str, Member] = field(default_factory=dict)
    generation: int = 0
    is_joining: bool = False
    committed: dict[TopicPartition, OffsetAndMetadata] = field(default_factory=dict)


class Broker:
    """All partitions, one coordinator. A request takes effect at one moment, whether or not its sender lives.

    `unflushed` is a fault of the broker's: it acknowledges records that a crash of its machine loses.
    """

    def __init__(self, loop: SimulatedLoop, timeline: Timeline, partitions: int) -> None:
        self.loop, self.timeline, self.partitions = loop, timeline, partitions
        self.logs: defaultdict[TopicPartition, list[Stored]] = defaultdict(list)
        self.groups: defaultdict[str, Group] = defaultdict(Group)
        self.away_until: defaultdict[int, float] = defaultdict(float)
        self.flushed: dict[TopicPartition, int] | None = None
        self._written: dict[tuple[str, int], Any] = {}
        self._watchers: defaultdict[str, list[asyncio.Future[None]]] = defaultdict(list)

    def records(self, topic: str) -> list[Stored]:
        """Every record of a topic, each partition in its order."""
        return [record for place in sorted(self.logs) if place.topic == topic for record in self.logs[place]]

    def is_away(self, partition: int) -> bool:
        """Whether no leader of the partitions of this number answers."""
        return self.away_until[partition] > self.loop.moment

    async def ask(
        self, purpose: str, partition: int, answer: Callable[[], T], *, within: float = _REQUEST_SECONDS
    ) -> T:
        """Send a request, and return its answer. Raises `RequestTimedOutError` where the request or the answer is lost.

        `answer` runs outside of every process, and may raise.
        """
        process, loop = current_process(), self.loop
        name = f"{purpose} {process and process.name}"
        there, back = loop.dice.delay(f"there {name}", 0.003), loop.dice.delay(f"back {name}", 0.003)
        luck = loop.dice.draw(f"loss {name}")
        answered: asyncio.Future[T] = loop.create_future()

        def arrive() -> None:
            result, fault = None, None
            is_lost = self.is_away(partition) or luck < 0.002
            if not self.is_away(partition) and not 0.001 <= luck < 0.002:
                try:
                    result = answer()
                except KafkaError as raised:
                    fault = raised
            wait, fault = (within, RequestTimedOutError()) if is_lost else (back, fault)
            loop.call_later(wait, _settle, answered, result, fault, context=loop.outside)

        loop.call_later(there, arrive, context=loop.outside)
        return await answered

    def append(self, batch: tuple[str, int], place: TopicPartition, drafts: Iterable[Draft]) -> tuple[int, int]:
        """Append a batch unless it is there already; gives the first offset and the stamp."""
        if batch in self._written:
            offset, stamp = self._written[batch]
            return offset, stamp
        log, now = self.logs[place], to_millis(self.timeline.at(self.loop.moment))
        offset, stamp = len(log), now
        for draft in drafts:
            stamp = now if place.topic in _STAMPED_BY_BROKER else draft.created
            log.append(Stored(place.topic, place.partition, len(log), stamp, draft.key, draft.value, draft.headers))
        self._written[batch] = offset, stamp
        for watcher in self._watchers.pop(place.topic, ()):
            if not watcher.done():
                watcher.set_result(None)
        return offset, stamp

    def lose_unflushed(self) -> None:
        """The machine loses its power: what no flush has covered is gone."""
        for place, flushed in (self.flushed or {}).items():
            del self.logs[place][flushed:]

    def watch(self, topics: Iterable[str]) -> "asyncio.Future[None]":
        """Done at the next append to one of these topics."""
        watcher: asyncio.Future[None] = self.loop.create_future()
        for topic in topics:
            self._watchers[topic].append(watcher)
        return watcher

    def join(
        self, group_name: str, member: Member, *, patience: float
    ) -> "asyncio.Future[tuple[int, list[TopicPartition]]]":
        """Ask for partitions; the group waits until all its members have asked, or `patience` has passed."""
        group = self.groups[group_name]
        group.members[member.name] = member
        member.heard_at = self.loop.moment
        member.joined = self.loop.create_future()
        if not group.is_joining:
            group.is_joining = True
            self.loop.call_later(patience, self._assign, group, context=self.loop.outside)
        if all(other.joined is not None for other in group.members.values()):
            self.loop.call_later(0.05, self._assign_if_all, group, context=self.loop.outside)
        return member.joined

    def _assign_if_all(self, group: Group) -> None:
        if all(member.joined is not None for member in group.members.values()):
            self._assign(group)

    def _assign(self, group: Group) -> None:
        if not group.is_joining:
            return
        group.is_joining = False
        group.members = {name: member for name, member in group.members.items() if member.joined is not None}
        group.generation += 1
        names = sorted(group.members)
        for rank, name in enumerate(names):
            member = group.members[name]
            joined, member.joined, member.generation = member.joined, None, group.generation
            self._hear(group, member)
            numbers = range(rank, self.partitions, len(names))
            places = [TopicPartition(topic, number) for topic in member.topics for number in numbers]
            if joined is not None and not joined.done():
                joined.set_result((group.generation, places))

    def heartbeat(self, group_name: str, member: Member) -> str:
        """`ok`, `rebalance` when the member has to join again, or `unknown` when the group went on without it."""
        group = self.groups[group_name]
        if group.members.get(member.name) is not member:
            return "unknown"
        self._hear(group, member)
        return "rebalance" if group.is_joining or member.generation != group.generation else "ok"

    def _hear(self, group: Group, member: Member) -> None:
        member.heard_at = self.loop.moment
        self.loop.call_later(SESSION + 0.001, self._expire, group, member, context=self.loop.outside)

    def _expire(self, group: Group, member: Member) -> None:
        if member.joined is None and member.heard_at + SESSION <= self.loop.moment:
            self.leave(group, member)

    def leave(self, group: Group, member: Member) -> None:
        """The others have to share its partitions."""
        if group.members.get(member.name) is not member:
            return
        del group.members[member.name]
        if group.members and not group.is_joining:
            group.is_joining = True
            self.loop.call_later(60.0, self._assign, group, context=self.loop.outside)
        elif group.is_joining:
            self.loop.call_later(0.05, self._assign_if_all, group, context=self.loop.outside)


def _settle(answered: "asyncio.Future[Any]", result: Any, fault: KafkaError | None) -> None:
    if answered.done():
        return
    if fault is not None:
        answered.set_exception(fault)
    else:
        answered.set_result(result)
