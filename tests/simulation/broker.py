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
from schemas.topics import TOPICS
from tests.simulation.log import Headers, Log, Stored
from tests.simulation.loop import Process, SimulatedLoop, current_process
from tests.simulation.timeline import Timeline

T = TypeVar("T")

_STAMPED_BY_BROKER = {topic.name for topic in TOPICS if topic.settings.get("message.timestamp.type") == "LogAppendTime"}
_DAY = "86400000"
# How long each keeps tombstones, in milliseconds.
_COMPACTED = {
    topic.name: int(topic.settings.get("delete.retention.ms", _DAY)) for topic in TOPICS if topic.cleanup == "compact"
}
_REQUEST_SECONDS = 3.0
# A process that is deaf to its group does not learn that it goes on without it, and works on.
_OF_MEMBERS = ("beat", "join")
SESSION = 10.0


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
    """A consumer group: its members by name, the topics that they read, and the offsets that it has committed."""

    topics: set[str] = field(default_factory=set)
    members: dict[str, Member] = field(default_factory=dict)
    generation: int = 0
    is_joining: bool = False
    committed: dict[TopicPartition, OffsetAndMetadata] = field(default_factory=dict)


class Broker:
    """All partitions, one coordinator. A request takes effect at one moment, whether or not its sender lives.

    No leader of the partitions of a number answers until `away_until`. What is appended until `behind_until` is read
    and acknowledged only then. A process dies when so many requests more as `dies_after` says have taken effect.
    """

    def __init__(self, loop: SimulatedLoop, timeline: Timeline, partitions: int) -> None:
        self.loop, self.timeline, self.partitions = loop, timeline, partitions
        self.logs: dict[TopicPartition, Log] = {}
        self.groups: defaultdict[str, Group] = defaultdict(Group)
        self.away_until: defaultdict[int, float] = defaultdict(float)
        self.behind_until: defaultdict[int, float] = defaultdict(float)
        self.dies_after: dict[Process, int] = {}
        self._cuts: dict[str, tuple[float, bool]] = {}
        self._deaf_until: defaultdict[str, float] = defaultdict(float)
        self._written: dict[tuple[str, int], tuple[int, int]] = {}
        self._unreplicated: defaultdict[
            TopicPartition, list[tuple[tuple[str, int], asyncio.Future[tuple[int, int]]]]
        ] = defaultdict(list)
        self._watchers: defaultdict[str, list[asyncio.Future[None]]] = defaultdict(list)

    def log(self, place: TopicPartition) -> Log:
        """Of some topics retention has taken the beginning, long ago."""
        if place not in self.logs:
            luck = 0.0 if place.topic in _COMPACTED else self.loop.dice.draw(f"start {place.topic}/{place.partition}")
            self.logs[place] = Log(int(luck * 3) * 1000)
        return self.logs[place]

    def records(self, topic: str) -> list[Stored]:
        """Every record that a topic has had, each partition in its order."""
        return [record for place in sorted(self.logs) if place.topic == topic for record in self.logs[place].written]

    def cut(self, process: str, seconds: float, *, is_whole: bool) -> None:
        """From now on the answers to a process are lost, and if the cut is whole, its requests too."""
        self._cuts[process] = self.loop.moment + seconds, is_whole

    def deafen(self, process: str, seconds: float) -> None:
        """From now on a process hears nothing of its groups, nor they of it; all else reaches it."""
        self._deaf_until[process] = self.loop.moment + seconds

    def heal(self) -> None:
        self._cuts.clear()
        self._deaf_until.clear()
        self.dies_after.clear()

    def _is_cut(self, process: Process | None, *, also_there: bool = False) -> bool:
        until, is_whole = self._cuts.get(process.name, (0.0, False)) if process is not None else (0.0, False)
        return until > self.loop.moment and (is_whole or not also_there)

    def _is_away(self, partition: int) -> bool:
        return self.away_until[partition] > self.loop.moment

    def hears_us(self, partition: int) -> bool:
        """Whether the running process has answers from the leader of the partitions of this number."""
        return not (self._is_away(partition) or (self._cuts and self._is_cut(current_process())))

    async def ask(
        self,
        purpose: str,
        partition: int,
        answer: "Callable[[], T | asyncio.Future[T]]",
        *,
        within: float = _REQUEST_SECONDS,
    ) -> T:
        """Send a request, and return its answer. Raises `RequestTimedOutError` where the request or the answer is lost.

        `answer` runs outside of every process, and may raise, or give a future of the answer; a cancelled one is lost.
        """
        process, loop = current_process(), self.loop
        name = f"{purpose} {process and process.name}"
        there, back = loop.dice.delay(f"there {name}", 0.003), loop.dice.delay(f"back {name}", 0.003)
        luck = loop.dice.draw(f"loss {name}")
        answered: asyncio.Future[T] = loop.create_future()
        member = process.name if process is not None and purpose.startswith(_OF_MEMBERS) else ""

        def arrive() -> None:
            is_cut = self._is_cut(process, also_there=True) or self._deaf_until[member] > loop.moment
            if self._is_away(partition) or luck < 0.001 or is_cut:
                respond(None, RequestTimedOutError())
                return
            try:
                result = answer()
            except KafkaError as fault:
                respond(None, fault)
                return
            self._note_effect(process)
            if isinstance(result, asyncio.Future):
                result.add_done_callback(settle, context=loop.outside)
            else:
                respond(result, None)

        def settle(done: asyncio.Future[T]) -> None:
            if done.cancelled():
                respond(None, RequestTimedOutError())
            else:
                respond(done.result(), None)

        def respond(result: Any, fault: BaseException | None) -> None:
            is_lost = isinstance(fault, RequestTimedOutError) or luck < 0.002 or self._is_cut(process)
            wait, fault = (within, RequestTimedOutError()) if is_lost else (back, fault)
            loop.call_later(wait, _settle, answered, result, fault, context=loop.outside)

        loop.call_later(there, arrive, context=loop.outside)
        return await answered

    def _note_effect(self, process: Process | None) -> None:
        if process is not None and process in self.dies_after:
            self.dies_after[process] -= 1
            if self.dies_after[process] < 0:
                del self.dies_after[process]
                process.die()

    def append(
        self, batch: tuple[str, int], place: TopicPartition, drafts: Iterable[Draft], *, acks_all: bool
    ) -> "tuple[int, int] | asyncio.Future[tuple[int, int]]":
        """Append a batch unless it is there already; gives the first offset and the stamp, with `acks_all` only when no
        crash of the leader can take it any more.
        """
        log, now = self.log(place), to_millis(self.timeline.at(self.loop.moment))
        if batch not in self._written:
            offset = stamp = log.end_of_leader
            for number, draft in enumerate(drafts, offset):
                stamp = now if place.topic in _STAMPED_BY_BROKER else draft.created
                log.waiting.append(
                    Stored(place.topic, place.partition, number, stamp, draft.key, draft.value, draft.headers)
                )
            self._written[batch] = offset, stamp
            if self.behind_until[place.partition] <= self.loop.moment:
                self._replicate(place)
        if self._written[batch][0] < log.end:
            return self._written[batch]
        replicated: asyncio.Future[tuple[int, int]] = self.loop.create_future()
        self._unreplicated[place].append((batch, replicated))
        return replicated if acks_all else self._written[batch]

    def has(self, batch: tuple[str, int]) -> bool:
        """Whether the batch is in a log, or may come into it."""
        return batch in self._written

    def fall_behind(self, partition: int, seconds: float, *, then_crash: bool) -> None:
        """A follower is behind in the partitions of this number; then it catches up, or the leader loses its power."""
        ends_at = self.loop.moment + seconds
        self.behind_until[partition] = max(ends_at, self.behind_until[partition])
        self.loop.call_at(ends_at, self._catch_up, partition, then_crash, context=self.loop.outside)

    def _catch_up(self, partition: int, crashes: bool) -> None:
        if self.behind_until[partition] > self.loop.moment:
            return
        if crashes:
            self.away_until[partition] = max(self.away_until[partition], self.loop.moment + 1)
        for place, log in self.logs.items():
            if place.partition == partition and crashes:
                log.waiting.clear()
                for batch, replicated in self._unreplicated.pop(place, ()):
                    self._written.pop(batch, None)
                    replicated.cancel()
            elif place.partition == partition:
                self._replicate(place)

    def _replicate(self, place: TopicPartition) -> None:
        self.logs[place].replicate()
        for batch, replicated in self._unreplicated.pop(place, ()):
            replicated.set_result(self._written[batch])
        for watcher in self._watchers.pop(place.topic, ()):
            if not watcher.done():
                watcher.set_result(None)

    def compact(self, luck: int) -> None:
        """Compact each topic that is to be, up to some offset that its groups have passed.

        In Kafka it comes hours later, because it spares the segment that is written to.
        """
        now = to_millis(self.timeline.at(self.loop.moment))
        for place, log in self.logs.items():
            if place.topic in _COMPACTED and log.written:
                read_to = [
                    group.committed[place].offset if place in group.committed else log.start
                    for group in self.groups.values()
                    if place.topic in group.topics
                ]
                before = min([log.start + luck % len(log.written), *read_to])
                log.compact(before, now - _COMPACTED[place.topic])

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
        group.topics.update(member.topics)
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
