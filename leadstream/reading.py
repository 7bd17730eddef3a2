"""Reads `leads`: each record with its offset, in a consumer group or without."""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Self

from aiokafka import ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import CommitFailedError, IllegalStateError

from leads.records import Lead
from leadstream.connection import Connection, connect, one_line_faults
from leadstream.errors import ClientError, UnreadableRecord
from leadstream.making import require_zones
from runtime import kafka
from runtime.clock import from_millis
from runtime.topic_reading import first_since
from schemas.codec import Codec, NotDecodable, lead_codec
from schemas.topics import LEADS

_POLL_MILLIS = 200
_COMMIT_EVERY = 1.0
_CLOSES_WITHIN = 10.0


@dataclass(frozen=True, slots=True)
class LeadRecord:
    """A record of `leads`. `lead` is None where the lead was erased: then delete what you hold of `lead_id`.

    `written_at` is Kafka's time of the record. `repr` shows no personal data.
    """

    lead_id: str
    lead: Lead | None = field(repr=False)
    partition: int
    offset: int
    written_at: datetime


class AsyncLeads:
    """The records of `leads`, each partition in its order: `async with AsyncLeads() as leads`, then `async for`.

    With a `group`, the members of that group share the partitions, and each partition goes on where the group's commit
    is. Without a group nothing is committed. Where nothing is committed, reading begins at the first record that Kafka
    stamped no sooner than `since`, or at the beginning. With `follow=False` iteration ends at the end that the topic
    had when reading began.

    Delivery is at least once. A record counts as processed when the next one is asked for, or after `commit()`;
    processed records are committed each second, when no more are there, and at the end of the block. A record that was
    in hand at an exception, a `break` or a rebalance comes again.

    `environ` has `LEADSTREAM_…` variables in the place of the process's. Opening raises `ClientError`, and so does
    iteration; iteration also raises `UnreadableRecord` for a record that is no lead. While Kafka is away, it waits. For
    one task at a time.
    """

    def __init__(
        self,
        *,
        group: str | None = None,
        since: datetime | None = None,
        follow: bool = True,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        if since is not None:
            require_zones(since)
        self._group, self._since, self._follow, self._environ = group, since, follow, environ
        self._reading: _Reading | None = None

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as opened:
            connection = await connect(self._environ)
            if self._group is not None and self._group.startswith(f"{connection.prefix}leadstream"):
                raise ClientError(f"the consumer group {self._group} may be leadstream's own: take another name")
            partitions = await connection.partitions(LEADS)
            consumer = kafka.consumer(connection.cluster, group=self._group, client_id="leadstream-client")
            opened.push_async_callback(kafka.leave, consumer, _CLOSES_WITHIN)
            self._reading = _Reading(connection, consumer, partitions, self._group, self._since, follow=self._follow)
            async with one_line_faults(connection.cluster):
                await self._reading.start()
            self._opened = opened.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        reading, self._reading = self._now_reading, None
        async with self._opened:
            await reading.finish(_CLOSES_WITHIN)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> LeadRecord:
        return await self._now_reading.next()

    async def commit(self) -> None:
        """Commit every record so far, the one in hand too. Without a group it does nothing."""
        await self._now_reading.commit_all()

    @property
    def _now_reading(self) -> "_Reading":
        if self._reading is None:
            raise ClientError("not open: read and write in a `with` block")
        return self._reading


class _Reading(ConsumerRebalanceListener):  # type: ignore[misc] # aiokafka is untyped
    """A consumer between its start and its end."""

    def __init__(
        self,
        connection: Connection,
        consumer: kafka.Consumer,
        partitions: int,
        group: str | None,
        since: datetime | None,
        *,
        follow: bool,
    ) -> None:
        self._cluster, self._consumer = connection.cluster, consumer
        self._topic, self._count = f"{connection.prefix}{LEADS.name}", partitions
        self._group, self._since, self._follow = group, since, follow
        self._codec: Codec[Lead] = lead_codec(connection.ids)
        self._is_moved = True
        self._ends: dict[TopicPartition, int] = {}
        self._in_hand: tuple[TopicPartition, int] | None = None
        self._processed: dict[TopicPartition, int] = {}
        self._committed_at = 0.0

    async def start(self) -> None:
        if self._group is not None:
            self._consumer.subscribe([self._topic], listener=self)
            await self._consumer.start()
        else:
            await self._consumer.start()
            self._consumer.assign([TopicPartition(self._topic, number) for number in range(self._count)])

    async def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:  # noqa: ARG002
        self._in_hand = None
        await self._commit()

    def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:  # noqa: ARG002
        # aiokafka swallows what a listener raises, so the next pass finds the offsets.
        self._is_moved = True

    async def next(self) -> LeadRecord:
        self._pass()
        async with one_line_faults(self._cluster):
            if asyncio.get_running_loop().time() - self._committed_at >= _COMMIT_EVERY:
                await self._commit()
            record = await self._fetched()
        self._in_hand = TopicPartition(record.topic, record.partition), record.offset
        return self._decoded(record)

    async def _fetched(self) -> Any:
        """The next record. Raises `StopAsyncIteration` at the end."""
        while True:
            while self._is_moved:
                await self._begin()
            try:
                unread = await self._unread()
            except IllegalStateError:
                # Partitions went to another member meanwhile.
                continue
            if not unread and not self._follow:
                await self._commit()
                raise StopAsyncIteration
            # More than one would lie here while a rebalance gives their partition away.
            batches: Mapping[Any, Sequence[Any]] = await self._consumer.getmany(
                *unread, timeout_ms=_POLL_MILLIS, max_records=1
            )
            for [record] in batches.values():
                if not self._is_moved:
                    return record
            if not batches:
                await self._commit()

    async def _begin(self) -> None:
        """Go to the first offset of each partition that is now ours."""
        self._is_moved = False
        held = self._consumer.assignment()
        starts = await self._starts(held)
        ends = {} if self._follow else await self._consumer.end_offsets(held)
        if not self._is_moved:
            self._ends = ends
            for partition, offset in starts.items():
                self._consumer.seek(partition, offset)

    async def _starts(self, held: Collection[TopicPartition]) -> dict[TopicPartition, int]:
        firsts, ends = await self._consumer.beginning_offsets(held), await self._consumer.end_offsets(held)
        committed = {tp: await self._consumer.committed(tp) for tp in held} if self._group is not None else {}
        starts = {tp: offset for tp, offset in committed.items() if offset is not None}
        for (topic, partition), offset in starts.items():
            if not firsts[topic, partition] <= offset <= ends[topic, partition]:
                raise ClientError(
                    f"{topic}/{partition}: Kafka no longer has offset {offset}, which comes next for {self._group}: the"
                    " topic was cut off or made anew; read it all with another group"
                )
        unread = [tp for tp in held if tp not in starts]
        if self._since is None:
            return starts | {tp: firsts[tp] for tp in unread}
        return starts | {tp: ends[tp] for tp in unread} | await first_since(self._consumer, unread, self._since)

    async def _unread(self) -> list[TopicPartition]:
        return [tp for tp, end in self._ends.items() if await self._consumer.position(tp) < end]

    def _decoded(self, record: Any) -> LeadRecord:
        try:
            lead = None if record.value is None else self._codec.decode(record.value)
            lead_id = record.key.decode() if lead is None else lead.lead_id
        except NotDecodable as fault:
            raise self._unreadable(record, fault.reason) from None
        except (AttributeError, UnicodeDecodeError):
            raise self._unreadable(record, "no_key") from None
        return LeadRecord(lead_id, lead, record.partition, record.offset, from_millis(record.timestamp))

    def _unreadable(self, record: Any, reason: str) -> UnreadableRecord:
        return UnreadableRecord(
            topic=record.topic,
            partition=record.partition,
            offset=record.offset,
            reason=reason,
            key=record.key,
            value=record.value,
        )

    def _pass(self) -> None:
        """Count the record in hand as processed."""
        if self._in_hand is not None:
            partition, offset = self._in_hand
            self._processed[partition] = offset + 1
            self._in_hand = None

    async def commit_all(self) -> None:
        self._pass()
        async with one_line_faults(self._cluster):
            await self._commit()

    async def finish(self, seconds: float) -> None:
        """Commit the processed records, if Kafka takes it in time; otherwise they come again."""
        with suppress(TimeoutError, ClientError):
            async with asyncio.timeout(seconds), one_line_faults(self._cluster):
                await self._commit()

    async def _commit(self) -> None:
        self._committed_at = asyncio.get_running_loop().time()
        processed, self._processed = self._processed, {}
        if self._group is None or not processed:
            return
        # Where the partitions are another member's by now, that member is given these records again.
        with suppress(CommitFailedError, IllegalStateError):
            await self._consumer.commit(processed)
