"""What runs in the thread of aiokafka's consumer: fetching, and watching what the broker answers."""

from datetime import datetime
from time import monotonic
from typing import Any, NamedTuple

from aiokafka import ConsumerRecord
from aiokafka.errors import (
    ConsumerStoppedError,
    IllegalGenerationError,
    RebalanceInProgressError,
    UnknownMemberIdError,
)
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.protocol.group import HeartbeatRequest, SyncGroupRequest
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread
from faust.types import TP

from runtime.clock import now
from streams.lease import Lease

_MAX_BATCH = 1000
# Faust's 1500 ms lets the long poll of idle partitions hold up a busy one on the same broker.
_FETCH_MAX_WAIT_MS = 50


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
        self._log_ends: dict[TP, tuple[int, datetime]] = {}

    def _create_worker_consumer(self, transport: Any) -> Any:
        consumer = super()._create_worker_consumer(transport)
        consumer._fetch_max_wait_ms = _FETCH_MAX_WAIT_MS
        ask = consumer._client.send

        async def ask_and_watch(node_id: int, request: Any, **options: Any) -> Any:
            asked_at, asked_at_tick = now(), monotonic()
            response = await ask(node_id, request, **options)
            if isinstance(request, FetchRequest):
                self._note_log_ends(request, response, asked_at)
            elif isinstance(request, HeartbeatRequest | SyncGroupRequest):
                self._note_membership(response.error_code, asked_at_tick)
            return response

        consumer._client.send = ask_and_watch
        return consumer

    def _note_log_ends(self, request: FetchRequest, response: Any, asked_at: datetime) -> None:
        asked = {(topic, partition): offset for topic, wanted in request.topics for partition, offset, _ in wanted}
        for topic, answers in response.topics:
            for partition, error_code, highwater, *_ in answers:
                if error_code == 0 and highwater == asked[topic, partition]:
                    self._log_ends[TP(topic, partition)] = (highwater, asked_at)

    def _note_membership(self, error_code: int, asked_at: float) -> None:
        if error_code in (0, RebalanceInProgressError.errno):
            self.lease.granted(asked_at)
        elif error_code in (UnknownMemberIdError.errno, IllegalGenerationError.errno):
            self.lease.lost()

    async def fetch(self, partitions: set[TP], wait: float) -> Fetched:
        """Up to 1000 records of these partitions, waiting up to `wait` seconds for the first."""
        fetched: Fetched = await self.call_thread(self._fetch, partitions, wait)
        return fetched

    async def _fetch(self, partitions: set[TP], wait: float) -> Fetched:
        consumer = self._ensure_consumer()
        if not self.consumer.flow_active:
            return Fetched([], {})
        fetcher = consumer._fetcher
        if consumer._closed or fetcher._closed:
            raise ConsumerStoppedError
        before = self._positions()
        with fetcher._subscriptions.fetch_context():
            found = await fetcher.fetched_records(partitions, timeout=wait, max_records=_MAX_BATCH)
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
