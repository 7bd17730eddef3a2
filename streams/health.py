"""Watches a worker at its work: health, lag and the size of its batches."""

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from math import nan

import faust
from faust.types import TP, Message

from runtime.clock import from_millis, now
from runtime.health import Health
from runtime.lateness import Lateness
from runtime.metrics import Metrics
from streams.engine.store import PartitionStore
from streams.engine.transport import end_of_log, is_settled

# Longer than any batch takes and any rebalance lasts, so that whoever restarts what is red does so for a reason.
PATIENCE = timedelta(minutes=2)


@dataclass(slots=True)
class Vitals:
    """Times come in. `since` is when the worker last had its partitions, or came nearer to them.

    `finished` is the offset after the last finished batch of each partition.
    """

    since: datetime
    finished: dict[TP, int] = field(default_factory=dict)
    _in_hand: dict[TP, datetime] = field(default_factory=dict)
    _unsettled: bool = True
    _recovered: int = 0

    @contextmanager
    def batch(self, tp: TP, last_offset: int, at: datetime) -> Iterator[None]:
        """Around the work on a batch that was handed to an agent at that time."""
        self._in_hand[tp] = at
        yield
        # Not in a `finally`: a batch that raised stays unfinished.
        del self._in_hand[tp]
        self.finished[tp] = last_offset + 1

    def keep(self, assigned: Collection[TP]) -> None:
        """Forget what was finished of partitions that went to another worker."""
        self.finished = {tp: offset for tp, offset in self.finished.items() if tp in assigned}

    def look(self, *, settled: bool, recovered: int, at: datetime) -> None:
        """Take in whether the worker has its partitions, and how many keys of state, which show that it goes on."""
        if settled or not self._unsettled or recovered != self._recovered:
            self.since = at
        self._unsettled, self._recovered = not settled, recovered

    def complaint(self, at: datetime) -> str | None:
        """Why somebody should replace this worker, or None."""
        if self._unsettled and at - self.since > PATIENCE:
            return f"without its partitions for {_seconds(at - self.since)}"
        for tp, handed_at in self._in_hand.items():
            if at - handed_at > PATIENCE:
                return f"a batch of {tp.topic}/{tp.partition} is unfinished after {_seconds(at - handed_at)}"
        return None


def _seconds(span: timedelta) -> str:
    return f"{span.total_seconds():.0f} s"


CLOCK = "clock"


class Watch:
    """Reports as the part `streams`: ready with its partitions and their state, crashed when it should be replaced.

    The part `kafka` tells whether the group's coordinator answers; while it does not, the lag is unknown (NaN).
    The part `clock` is red while `refused` has raw partitions: how far ahead of a right clock their times are.
    """

    def __init__(
        self,
        app: faust.App,
        store: PartitionStore,
        metrics: Metrics,
        health: Health,
        refused: Callable[[], Mapping[int, timedelta]],
    ) -> None:
        self._app, self._store, self._metrics, self._health = app, store, metrics, health
        self._refused = refused
        self._vitals, self._lateness = Vitals(now()), Lateness()
        health.report("streams", ready=False, seen="waits for its partitions")

    @contextmanager
    def batch(self, message: Message) -> Iterator[None]:
        """Around the work on one batch."""
        self._metrics.batch_records.labels(message.topic).observe(len(message.value))
        with self._vitals.batch(message.tp, message.offset, now()):
            yield
        self._lateness.note(message.tp, from_millis(message.value[-1].timestamp))

    def look(self, at: datetime) -> None:
        """Take stock; to be called about twice a second."""
        settled = is_settled(self._app)
        self._vitals.look(settled=settled, recovered=sum(map(len, self._store.parts.values())), at=at)
        self._health.report("streams", ready=settled, seen="" if settled else "waits for its partitions")
        lease = self._app.consumer.lease
        answers = lease.is_answered()
        unanswered = f"no heartbeat was answered for {lease.term:g} s"
        self._health.report("kafka", ready=answers, seen="" if answers else unanswered)
        failure = self._app.consumer.failure
        self._health.crashed = type(failure).__name__ if failure else self._vitals.complaint(at)
        if settled:
            self._report_lag(at, is_known=answers)
            self._report_clock()

    def _report_clock(self) -> None:
        refused = self._refused()
        self._metrics.progress_refused_seconds.clear()
        for partition, ahead in refused.items():
            self._metrics.progress_refused_seconds.labels(partition).set(ahead.total_seconds())
        furthest = max(refused, key=lambda partition: refused[partition], default=None)
        seen = ""
        if furthest is not None:
            seconds = refused[furthest].total_seconds()
            seen = f"raw partition {furthest} is {seconds:.0f} s ahead of a plausible time: check the clocks"
        self._health.report(CLOCK, ready=not refused, seen=seen)

    def _report_lag(self, at: datetime, *, is_known: bool) -> None:
        ends = end_of_log(self._app)
        self._vitals.keep(ends.keys())
        self._lateness.keep(ends.keys())
        self._metrics.consumer_lag.clear()
        self._metrics.consumer_lag_seconds.clear()
        for tp, end in ends.items():
            lag = self._lag(tp, end) if is_known else nan
            if lag == 0:
                self._lateness.note(tp, at)
            if lag is not None:
                self._metrics.consumer_lag.labels(tp.topic, tp.partition).set(lag)
            seconds = self._lateness.seconds(tp, at) if is_known else nan
            self._metrics.consumer_lag_seconds.labels(tp.topic, tp.partition).set(seconds)

    def _lag(self, tp: TP, end: datetime | None) -> int | None:
        """None before the first batch is finished."""
        if end is not None:
            return 0
        done = self._vitals.finished.get(tp)
        return None if done is None else max(0, (self._app.consumer.highwater(tp) or 0) - done)
