"""The thread of aiokafka's consumer: it fetches, and watches the broker's answers."""

import asyncio
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from datetime import datetime
from time import monotonic
from typing import Any, NamedTuple

from aiokafka import ConsumerRecord, TopicPartition
from aiokafka.errors import (
    ConsumerStoppedError,
    IllegalGenerationError,
    RebalanceInProgressError,
    UnknownMemberIdError,
)
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.protocol.group import HeartbeatRequest, SyncGroupRequest
from aiokafka.protocol.offset import OffsetRequest, OffsetResetStrategy
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread
from faust.types import TP

from runtime.clock import now
from runtime.kafka import watch_fetches
from runtime.losses import OutOfReach, gone
from runtime.reach import Reach
from runtime.suspect import Suspect, suspect_in
from streams.engine.lease import Lease

_MAX_BATCH = 1000
# Faust's 1500 ms lets the long poll of idle partitions hold up a busy one on the same broker.
_FETCH_MAX_WAIT_MS = 50
# How often the end of each log is asked for: deadlines go by it, and wait for no more than the next progress.
_LOOK_SECONDS = 0.5
# A request with this id gets the end of the log. A consumer gets the high watermark, and behind it lie records that the
# leader has stamped and a follower does not have yet: DEBUGGING_REPLICA_ID of Kafka's ListOffsetsRequest.
_DEBUGGING_CONSUMER = -2


class Batch(NamedTuple):
    """Records of one partition; reading goes on at `resume_at`, which is past gaps that no record shows.

    There may be no record at all: only transaction markers, or what compaction and retention left behind.
    """

    tp: TP
    records: list[ConsumerRecord]
    resume_at: int


class Fetched(NamedTuple):
    """One answer of the fetcher; `ends` has the partitions of which it leaves nothing unread, and since when."""

    batches: list[Batch]
    ends: dict[TP, datetime]


class ConsumerThread(AIOKafkaConsumerThread):  # type: ignore[misc] # Faust is untyped to us
    """`fetch` is called from the app's loop; the rest runs in this thread's own."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.lease = Lease(self.app.conf.broker_session_timeout)
        self.suspects: dict[TP, Suspect | None] = {}
        self._reach: Reach = self.app.reach
        self._checked: Any = None
        self._newest_seen: dict[TP, int] = {}
        self._log_ends: dict[TP, tuple[int, datetime]] = {}
        self._looked_at: dict[TP, float] = {}

    def _create_worker_consumer(self, transport: Any) -> Any:
        consumer = super()._create_worker_consumer(transport)
        consumer._fetch_max_wait_ms = _FETCH_MAX_WAIT_MS
        self._watched = watch_fetches(consumer._client, consumer._subscription)
        ask = consumer._client.send

        async def ask_and_watch(node_id: int, request: Any, **options: Any) -> Any:
            if isinstance(request, FetchRequest):
                return await self._ask_and_look_for_ends(ask, node_id, request, **options)
            asked_at = monotonic()
            response = await ask(node_id, request, **options)
            if isinstance(request, HeartbeatRequest | SyncGroupRequest):
                self._note_membership(response.error_code, asked_at)
            return response

        consumer._client.send = ask_and_watch
        commit = consumer.commit

        async def commit_with_notes(offsets: Mapping[TopicPartition, Any]) -> None:
            at = {tp: offset if isinstance(offset, int) else offset.offset for tp, offset in offsets.items()}
            notes = {tp: self._reach.note(self.suspects.get(TP(*tp))) for tp in at}
            await commit({tp: (offset, notes[tp]) for tp, offset in at.items()})

        # Faust commits with empty metadata.
        consumer.commit = commit_with_notes
        return consumer

    async def _ask_and_look_for_ends(self, ask: Any, node_id: int, request: FetchRequest, **options: Any) -> Any:
        """Fetch, and before it ask where the logs end of which nothing was left to read the last time.

        A node answers in the order in which it is asked, so it is the leader still, or the fetch fails.
        """
        offsets = {TP(topic, partition): offset for topic, wanted in request.topics for partition, offset, _ in wanted}
        moment, asked_at = monotonic(), now()
        at_end = [
            tp for tp, offset in offsets.items() if self._newest_seen.get(tp) == offset and self._is_due(tp, moment)
        ]
        self._looked_at.update(dict.fromkeys(at_end, moment))
        looking = ask(node_id, _where_logs_end(at_end), **options) if at_end else _nothing()
        both: Any = await asyncio.gather(looking, ask(node_id, request, **options), return_exceptions=True)
        ends, response = both
        if isinstance(response, BaseException):
            raise response
        highwaters = {tp: highwater for tp, error_code, highwater, *_ in _answers(response) if error_code == 0}
        self._newest_seen.update(highwaters)
        if not isinstance(ends, BaseException):
            for tp, error_code, _, end in _answers(ends):
                if error_code == 0 and end == offsets[tp] and tp in highwaters:
                    self._log_ends[tp] = (end, asked_at)
        return response

    def _is_due(self, tp: TP, moment: float) -> bool:
        """Whether to look for the end again, which no record may have passed since."""
        return moment >= self._looked_at.get(tp, moment - _LOOK_SECONDS) + _LOOK_SECONDS

    def _note_membership(self, error_code: int, asked_at: float) -> None:
        if error_code in (0, RebalanceInProgressError.errno):
            self.lease.granted(asked_at)
        elif error_code in (UnknownMemberIdError.errno, IllegalGenerationError.errno):
            self.lease.lost()

    async def suspect(self, tp: TP) -> Suspect | None:
        """The suspect in the committed offset of an assigned partition; known until the assignment changes."""
        if tp not in self.suspects:
            await self.call_thread(self._read_suspect, tp)
        return self.suspects.get(tp)

    async def _read_suspect(self, tp: TP) -> int | None:
        committed = await self._ensure_consumer()._coordinator.fetch_committed_offsets([tp])
        found = committed.get(tp)
        self.suspects.setdefault(tp, suspect_in(found.metadata) if found else None)
        return found.offset if found else None

    async def note(self, tp: TP, suspect: Suspect) -> None:
        """Write the suspect to the committed offset, which stays where it is, for whichever worker has the partition
        next. Raises `KafkaError`."""
        await self.call_thread(self._note, tp, suspect)

    def clear_suspect(self, tp: TP) -> None:
        """The suspected records are done: the next commit says so."""
        self.suspects[tp] = None

    async def _note(self, tp: TP, suspect: Suspect) -> None:
        consumer = self._ensure_consumer()
        offset = await self._read_suspect(tp)
        if offset is None:
            offset = (await consumer.beginning_offsets([TopicPartition(*tp)]))[TopicPartition(*tp)]
        self.suspects[tp] = suspect
        await consumer.commit({TopicPartition(*tp): offset})

    async def _commit(self, offsets: Mapping[TP, int]) -> bool:
        # A commit without the suspect would forget it while its records are still ahead.
        for tp in offsets.keys() - self.suspects.keys():
            await self._read_suspect(tp)
        return bool(await super()._commit(offsets))

    async def require_reach(self) -> dict[TP, int | None]:
        """Seek to where to read on; gives the offsets that are committed now.

        Raises `OutOfReach` unless Kafka has what comes next in every assigned partition, in the topics as they were, or
        an operator accepts the loss.
        """
        committed: dict[TP, int | None] = await self.call_thread(self._require_reach)
        return committed

    async def _require_reach(self) -> dict[TP, int | None]:
        consumer = self._ensure_consumer()
        changelogs = set(filter(self._is_changelog, consumer.assignment()))
        reach = await self._reach.spans(consumer, consumer.assignment() - changelogs, unread=changelogs)
        for tp, span in reach.items():
            consumer.seek(tp, span.start)
            self._watched.out_of_range.pop(tp, None)
        moved = {tp: span.start for tp, span in reach.items() if span.moved_to is not None}
        if moved:
            await consumer.commit(moved)
        if not self._reach.anew:
            await self._know_topics(changelogs)
        self._checked = consumer._subscription.subscription.assignment
        return {TP(*tp): moved.get(tp, span.committed) for tp, span in reach.items()}

    async def know_topics(self, partitions: Collection[TopicPartition]) -> None:
        """The state has let go of topics that were made anew: keep their new ids with these partitions' offsets."""
        await self.call_thread(self._know_topics, partitions)

    async def _know_topics(self, partitions: Collection[TopicPartition]) -> None:
        consumer = self._ensure_consumer()
        found = await consumer._coordinator.fetch_committed_offsets(list(partitions))
        # A changelog at 0: nobody reads on from there, and what counts is the note.
        at = {tp: found[tp].offset if tp in found else 0 for tp in partitions if tp in found or self._is_changelog(tp)}
        if at:
            await consumer.commit(at)

    def _is_changelog(self, partition: TopicPartition) -> bool:
        return bool(self.consumer._is_changelog_tp(partition))

    def _is_checked(self) -> bool:
        """Whether the reach of this very assignment is known: what is read before is read again."""
        subscription = self._ensure_consumer()._subscription.subscription
        return subscription is not None and subscription.assignment is self._checked

    async def _refuse_losses(self) -> None:
        """A fetch was refused: find out which loss it was, and raise `OutOfReach`."""
        consumer = self._ensure_consumer()
        if self._watched.missing and await self._reach.require_same_topics(consumer):
            self._watched.missing.clear()
        if self._watched.out_of_range:
            # It knows more where the committed offset is lost too.
            await self._reach.spans(consumer, self._watched.out_of_range.keys())
        for (topic, partition), offset in self._watched.out_of_range.items():
            raise OutOfReach(gone(topic, partition, offset))

    async def fetch(self, partitions: set[TP], wait: float) -> Fetched:
        """Up to 1000 records of these partitions, waiting up to `wait` seconds for the first."""
        fetched: Fetched = await self.call_thread(self._fetch, partitions, wait)
        return fetched

    async def _fetch(self, partitions: set[TP], wait: float) -> Fetched:
        consumer = self._ensure_consumer()
        if not self.consumer.flow_active:
            return Fetched([], {})
        if self._is_checked() and (self._watched.out_of_range or self._watched.missing):
            await self._refuse_losses()
        fetcher = consumer._fetcher
        if consumer._closed or fetcher._closed:
            raise ConsumerStoppedError
        before = self._positions()
        with fetcher._subscriptions.fetch_context():
            found = await fetcher.fetched_records(partitions, timeout=wait, max_records=_MAX_BATCH)
        if self._is_checked() and self._watched.out_of_range:
            # aiokafka has moved the position behind the loss, which would be committed as if it were read.
            await self._refuse_losses()
        after = self._positions()
        moved = [tp for tp in partitions & after.keys() if tp in found or after[tp] > before.get(tp, after[tp])]
        batches = [Batch(tp, found.get(tp, []), after[tp]) for tp in moved]
        # Compared with the position after this very fetch, so that an end covers what the fetch hands over.
        ends = {tp: at for tp, (offset, at) in self._log_ends.items() if after.get(tp) == offset}
        return Fetched(batches, ends)

    def _positions(self) -> dict[TP, int]:
        subscription = self._ensure_consumer()._subscription.subscription
        if subscription is None or subscription.assignment is None:
            return {}
        states = {tp: subscription.assignment.state_value(tp) for tp in subscription.assignment.tps}
        return {TP(*tp): state.position for tp, state in states.items() if state.has_valid_position}


def _where_logs_end(tps: list[TP]) -> OffsetRequest:
    topics = defaultdict(list)
    for tp in tps:
        topics[tp.topic].append((tp.partition, OffsetResetStrategy.LATEST))
    return OffsetRequest(_DEBUGGING_CONSUMER, 0, list(topics.items()))


def _answers(response: Any) -> Iterator[tuple[Any, ...]]:
    """The fields of each partition in a response, after the partition itself."""
    for topic, answers in response.topics if response else ():
        for partition, *answer in answers:
            yield TP(topic, partition), *answer


async def _nothing() -> None:
    pass
