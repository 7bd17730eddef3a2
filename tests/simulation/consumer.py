"""The part of aiokafka's consumer that the product uses, over the simulated broker."""

import asyncio
from collections.abc import Collection, Mapping
from contextlib import suppress
from functools import partial
from types import SimpleNamespace
from typing import Any

from aiokafka import TopicPartition
from aiokafka.errors import CommitFailedError, IllegalStateError, RequestTimedOutError
from aiokafka.structs import OffsetAndMetadata, OffsetAndTimestamp

from streams.engine.lease import Lease
from tests.simulation.broker import SESSION, Broker, Member
from tests.simulation.log import Stored
from tests.simulation.loop import current_process

_HEARTBEAT = 3.0
_REBALANCE = 60.0


class SimulatedConsumer:
    """Reads what it is assigned, or what its group gives it.

    `idle` is how long a read may wait for a record, however little time its caller allows: a slow network makes the
    product look around less often, and a year of bad days takes less time. While `lease` holds, nobody else can have
    its partitions.
    """

    misses_topics = False

    def __init__(self, broker: Broker, *, group: str | None = None, idle: float = 0.5) -> None:
        self._broker, self._group, self._idle = broker, group, idle
        process = current_process()
        self._owner = process.name if process is not None else "outside"
        self._topics: list[str] = []
        self._listener: Any = None
        self._member: Member | None = None
        self._generation = -1
        self._positions: dict[TopicPartition, int | None] = {}
        self._paused: set[TopicPartition] = set()
        self._tasks: list[asyncio.Task[None]] = []
        self._rejoin = asyncio.Event()
        self._changes = 0
        self.lease = Lease(SESSION)
        self.at_end: set[TopicPartition] = set()
        self._coordinator = SimpleNamespace(fetch_committed_offsets=self._fetch_committed)
        self._client = SimpleNamespace(send=self._topic_ids, get_random_node=lambda: 0)

    async def start(self) -> None:
        await self._ask("connect", lambda: None)

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        if self._member is not None and self._group is not None:
            group, member = self._broker.groups[self._group], self._member
            with suppress(RequestTimedOutError):
                await self._broker.ask("leave", 0, lambda: self._broker.leave(group, member))

    async def _ask(self, purpose: str, answer: Any, partition: int = 0) -> Any:
        """A request that is made again until it is answered."""
        while True:
            try:
                return await self._broker.ask(f"{purpose} {self._group}", partition, answer)
            except RequestTimedOutError:
                await asyncio.sleep(0.1)

    # Assignment.

    def subscribe(self, *, topics: Collection[str], listener: Any) -> None:
        self._topics, self._listener = list(topics), listener
        self._tasks = [asyncio.create_task(self._coordinate()), asyncio.create_task(self._beat())]

    def assign(self, partitions: Collection[TopicPartition]) -> None:
        self._positions = dict.fromkeys(partitions)
        self._changes += 1

    def assignment(self) -> set[TopicPartition]:
        return set(self._positions)

    async def _coordinate(self) -> None:
        assert self._group is not None
        while True:
            if self._positions:
                with suppress(Exception):
                    await self._listener.on_partitions_revoked(self.assignment())
            self._positions, self._paused = {}, set()
            self._changes += 1
            await self._join()
            await self._listener.on_partitions_assigned(self.assignment())
            await self._rejoin.wait()

    async def _join(self) -> None:
        group, broker, patience = self._group, self._broker, _REBALANCE
        assert group is not None
        while True:
            self._rejoin.clear()
            if self._member is None:
                number = int(broker.loop.dice.draw(f"member {self._owner}") * 1e9)
                self._member = Member(f"{self._owner} {number}", self._topics)
            member = self._member
            asks: Any = partial(broker.join, group, member, patience=patience)
            places: list[TopicPartition]
            with suppress(RequestTimedOutError, TimeoutError):
                async with asyncio.timeout(2 * patience):
                    self._generation, places = await broker.ask(f"join {group}", 0, asks)
                self._positions = dict.fromkeys(places)
                self._changes += 1
                self.lease.granted(member.heard_at)
                return

    async def _beat(self) -> None:
        group, broker = self._group, self._broker
        assert group is not None
        while True:
            await asyncio.sleep(_HEARTBEAT)
            member, asked_at = self._member, broker.loop.moment
            if member is None or self._generation < 0:
                continue
            try:
                heard = await broker.ask(f"beat {group}", 0, partial(broker.heartbeat, group, member))
            except RequestTimedOutError:
                continue
            if heard == "unknown" and member.joined is None:
                self._member = None
                self.lease.lost()
            elif heard != "unknown":
                self.lease.granted(asked_at)
            if heard != "ok":
                self._rejoin.set()

    # Reading.

    async def getmany(
        self, *partitions: TopicPartition, timeout_ms: int = 0, max_records: int | None = None
    ) -> dict[TopicPartition, list[Stored]]:
        ends_at = self._broker.loop.moment + (max(timeout_ms / 1000, self._idle) if timeout_ms else 0.0)
        while True:
            self._broker.loop.take_turn()
            changes = self._changes
            wanted = [place for place in sorted(partitions or self._positions) if place not in self._paused]
            for place in wanted:
                if self._positions.get(place, 0) is None:
                    await self.position(place)
            found = await self._fetched(wanted, max_records or 10_000)
            if changes != self._changes:
                return {}
            for place, records in found.items():
                self._positions[place] = records[-1].offset + 1
            left = ends_at - self._broker.loop.moment
            if found or left <= 0:
                return found
            watcher = self._broker.watch(sorted({place.topic for place in wanted}))
            await asyncio.wait([watcher], timeout=left)

    async def getone(self, partition: TopicPartition) -> Stored:
        while not (found := await self.getmany(partition, timeout_ms=1000, max_records=1)):
            pass
        return found[partition][0]

    async def _fetched(self, wanted: list[TopicPartition], most: int) -> dict[TopicPartition, list[Stored]]:
        log_of = self._broker.log
        reachable = [place for place in wanted if self._broker.hears_us(place.partition)]
        if not reachable:
            self.at_end = set()
            await asyncio.sleep(0.05)
            return {}
        starts = {place: self._positions.get(place) for place in reachable}
        if all(start is None or start >= log_of(place).end for place, start in starts.items()):
            # A fetch that waits at the broker costs nothing here; one that misses a leader is tried again in a while.
            self.at_end = {place for place in reachable if not log_of(place).waiting}
            if len(reachable) < len(wanted):
                await asyncio.sleep(0.05)
            return {}

        def answer() -> dict[TopicPartition, list[Stored]]:
            return {
                place: log_of(place).read(start, most)
                for place, start in starts.items()
                if start is not None and log_of(place).end > start
            }

        try:
            found = await self._broker.ask(f"fetch {self._group}", reachable[0].partition, answer)
        except RequestTimedOutError:
            self.at_end = set()
            return {}
        # A fetch takes what fits, and what it takes depends on much.
        kept = {}
        for place, records in found.items():
            luck = self._broker.loop.dice.draw(f"fit {self._owner} {place.topic}/{place.partition}")
            fitting = records if luck < 0.7 else records[: 1 + int(luck * 100) % 3]
            if self._positions.get(place) == starts[place]:
                kept[place] = fitting
        self.at_end = {place for place in reachable if place not in found and not log_of(place).waiting}
        return kept

    def seek(self, partition: TopicPartition, offset: int) -> None:
        self._require_assigned(partition)
        self._positions[partition] = offset
        self._changes += 1

    async def seek_to_beginning(self, *partitions: TopicPartition) -> None:
        for place in partitions:
            self.seek(place, self._broker.log(place).start)

    def _require_assigned(self, partition: TopicPartition) -> None:
        if partition not in self._positions:
            raise IllegalStateError(f"{partition} is not assigned")

    async def position(self, partition: TopicPartition) -> int:
        self._require_assigned(partition)
        position = self._positions[partition]
        if position is None:
            committed = (await self._fetch_committed([partition])).get(partition)
            position = committed.offset if committed is not None else self._broker.log(partition).start
            if partition in self._positions:
                self._positions[partition] = position
        return position

    def pause(self, *partitions: TopicPartition) -> None:
        self._paused.update(partitions)

    def paused(self) -> set[TopicPartition]:
        return set(self._paused)

    def resume(self, *partitions: TopicPartition) -> None:
        self._paused.difference_update(partitions)

    def sees_topics(self) -> None:
        """No topic is missing."""

    async def topics(self) -> set[str]:
        found: set[str] = await self._ask("topics", lambda: set(self._topics))
        return found

    # Offsets.

    async def commit(self, offsets: Mapping[TopicPartition, Any]) -> None:
        assert self._group is not None
        group, member, generation = self._broker.groups[self._group], self._member, self._generation

        def commit() -> None:
            is_member = member is not None and group.members.get(member.name) is member
            if not is_member or generation != group.generation:
                raise CommitFailedError("the group went on")
            for place, offset in offsets.items():
                group.committed[place] = OffsetAndMetadata(*(offset if isinstance(offset, tuple) else (offset, "")))

        await self._ask("commit", commit)

    async def _fetch_committed(self, partitions: Collection[TopicPartition]) -> Any:
        if self._group is None:
            return {}
        committed = self._broker.groups[self._group].committed
        return await self._ask("committed", lambda: {tp: committed[tp] for tp in sorted(partitions) if tp in committed})

    async def committed(self, partition: TopicPartition) -> int | None:
        found = (await self._fetch_committed([partition])).get(partition)
        return None if found is None else found.offset

    async def beginning_offsets(self, partitions: Collection[TopicPartition]) -> dict[TopicPartition, int]:
        return {place: self._broker.log(place).start for place in sorted(partitions)}

    async def end_offsets(self, partitions: Collection[TopicPartition]) -> Any:
        log_of, places = self._broker.log, sorted(partitions)
        number = places[0].partition if places else 0
        return await self._ask("ends", lambda: {place: log_of(place).end for place in places}, number)

    async def offsets_for_times(self, times: Mapping[TopicPartition, int]) -> Any:
        def first(place: TopicPartition, since: int) -> OffsetAndTimestamp | None:
            kept = self._broker.log(place).kept
            return next((OffsetAndTimestamp(r.offset, r.timestamp) for r in kept if r.timestamp >= since), None)

        return await self._ask("times", lambda: {place: first(place, since) for place, since in times.items()})

    async def _topic_ids(self, _node: int, request: Any) -> Any:
        return await self._ask("ids", lambda: SimpleNamespace(topics=[(0, name, 0, 7) for name in request._topics]))
