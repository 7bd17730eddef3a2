"""Watches a worker at its work: health, lag and the size of its batches."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from math import nan

import faust
from faust.types import Message

from runtime.clock import now
from runtime.health import Health
from runtime.metrics import Metrics
from streams.engine.store import PartitionStore
from streams.engine.transport import end_of_log, is_settled
from streams.vitals import PATIENCE, Vitals

CLOCK = "clock"


class Watch:
    """Reports as the part `streams`: ready with its partitions and their state, crashed when it should be replaced.

    The part `kafka` tells whether the group's coordinator answers; while it does not, the lag is unknown (NaN).
    The part `clock` tells which raw partition the join waits for; `clock_lags` says how far behind each is. The
    part is red too while `refused` has raw partitions: how far ahead of a right clock their times are.
    """

    def __init__(
        self,
        app: faust.App,
        store: PartitionStore,
        metrics: Metrics,
        health: Health,
        clock_lags: Callable[[], Mapping[int, timedelta]],
        refused: Callable[[], Mapping[int, timedelta]],
    ) -> None:
        self._app, self._store, self._metrics, self._health = app, store, metrics, health
        self._clock_lags, self._refused = clock_lags, refused
        self._vitals = Vitals(now())
        health.report("streams", ready=False, seen="waits for its partitions")

    @contextmanager
    def batch(self, message: Message) -> Iterator[None]:
        """Around the work on one batch."""
        self._metrics.batch_records.labels(message.topic).observe(len(message.value))
        with self._vitals.batch(message.tp, message.offset, now()):
            yield

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
            self._report_lag(is_known=answers)
            self._report_clock()

    def _report_clock(self) -> None:
        lags = self._clock_lags()
        self._metrics.join_clock_lag_seconds.clear()
        for partition, lag in lags.items():
            self._metrics.join_clock_lag_seconds.labels(partition).set(lag.total_seconds())
        refused = self._refused()
        self._metrics.progress_refused_seconds.clear()
        for partition, ahead in refused.items():
            self._metrics.progress_refused_seconds.labels(partition).set(ahead.total_seconds())
        slowest = max(lags, key=lambda one: lags[one], default=None)
        if refused:
            furthest = max(refused, key=lambda partition: refused[partition])
            seconds = refused[furthest].total_seconds()
            seen = f"raw partition {furthest} is {seconds:.0f} s ahead of a plausible time: check the clocks"
            self._health.report(CLOCK, ready=False, seen=seen)
        elif slowest is None:
            self._health.report(CLOCK, ready=False, seen="no raw partition has reported yet")
        else:
            behind = f"raw partition {slowest} is {lags[slowest].total_seconds():.0f} s behind"
            self._health.report(CLOCK, ready=lags[slowest] <= PATIENCE, seen=behind)

    def _report_lag(self, *, is_known: bool) -> None:
        ends = end_of_log(self._app)
        self._vitals.keep(ends.keys())
        self._metrics.consumer_lag.clear()
        for tp, end in ends.items():
            done = self._vitals.finished.get(tp)
            if not is_known:
                self._metrics.consumer_lag.labels(tp.topic, tp.partition).set(nan)
            elif end is not None:
                self._metrics.consumer_lag.labels(tp.topic, tp.partition).set(0)
            elif done is not None:
                lag = max(0, (self._app.consumer.highwater(tp) or 0) - done)
                self._metrics.consumer_lag.labels(tp.topic, tp.partition).set(lag)
