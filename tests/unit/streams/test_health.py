"""What a worker reports of itself while it works."""

import asyncio
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from math import isnan
from time import monotonic
from types import SimpleNamespace
from typing import Any

import pytest
from faust.types import TP

from runtime.clock import now, to_millis
from runtime.health import Health
from runtime.metrics import Metrics
from streams.engine.lease import Lease
from streams.health import CLOCK, PATIENCE, Vitals, Watch
from tests.builders import NOON, SECOND

EVENTS = TP("messenger-events", 3)
MINUTE = timedelta(minutes=1)


@dataclass
class FakeConsumer:
    """Partitions with the time up to which each is finished, None while it is not."""

    all_ends: dict[TP, datetime | None]
    failure: BaseException | None = None
    lease: Lease = field(default_factory=lambda: Lease(12))

    def ends(self) -> dict[TP, datetime | None]:
        return self.all_ends

    def highwater(self, tp: TP) -> int:
        return 50


@dataclass
class Worker:
    """A watch over a worker that is given as values."""

    consumer: FakeConsumer = field(default_factory=lambda: FakeConsumer({EVENTS: None}))
    metrics: Metrics = field(default_factory=Metrics)
    health: Health = field(default_factory=lambda: Health(spare=frozenset({CLOCK})))
    refused: dict[int, timedelta] = field(default_factory=dict)

    def __post_init__(self) -> None:
        recovered = asyncio.Event()
        recovered.set()
        tables = SimpleNamespace(recovery=SimpleNamespace(completed=recovered))
        self.app = SimpleNamespace(consumer=self.consumer, tables=tables, rebalancing=False, should_stop=False)
        store: Any = SimpleNamespace(parts={})
        self.watch = Watch(self.app, store, self.metrics, self.health, lambda: self.refused)

    def lag(self, unit: str = "") -> float | None:
        labels = {"topic": EVENTS.topic, "partition": str(EVENTS.partition)}
        return self.metrics.registry.get_sample_value(f"leadstream_consumer_lag{unit}", labels)


def a_batch(last_offset: int, at: datetime = NOON) -> SimpleNamespace:
    records = [SimpleNamespace(timestamp=to_millis(at - SECOND)), SimpleNamespace(timestamp=to_millis(at))]
    return SimpleNamespace(topic=EVENTS.topic, tp=EVENTS, offset=last_offset, value=records)


def test_lag_is_what_no_finished_batch_covers() -> None:
    worker = Worker()
    with worker.watch.batch(a_batch(last_offset=41)):
        pass

    worker.watch.look(now())

    assert worker.lag() == 8
    sizes = {"topic": EVENTS.topic}
    assert worker.metrics.registry.get_sample_value("leadstream_batch_records_sum", sizes) == 2


def test_at_the_end_of_the_log_there_is_no_lag() -> None:
    worker = Worker(FakeConsumer({EVENTS: now()}))

    worker.watch.look(now())

    assert worker.lag() == worker.lag("_seconds") == 0


def test_lag_in_seconds_counts_from_the_last_record_that_was_finished() -> None:
    worker = Worker()
    with worker.watch.batch(a_batch(41, at=NOON)):
        pass

    worker.watch.look(NOON + 90 * SECOND)

    assert worker.lag("_seconds") == 90


def test_lag_in_seconds_counts_from_the_end_of_the_log_where_that_was_later() -> None:
    worker = Worker(FakeConsumer({EVENTS: NOON}))
    worker.watch.look(NOON)
    worker.consumer.all_ends = {EVENTS: None}

    worker.watch.look(NOON + 5 * SECOND)

    assert worker.lag("_seconds") == 5


def test_a_worker_that_finishes_nothing_gets_later_and_later() -> None:
    worker = Worker()
    worker.watch.look(NOON)

    worker.watch.look(NOON + MINUTE)

    assert (worker.lag(), worker.lag("_seconds")) == (None, 60)


def test_a_partition_that_went_to_another_worker_has_no_lag_here() -> None:
    worker = Worker(FakeConsumer({EVENTS: now()}))
    worker.watch.look(now())

    worker.consumer.all_ends = {}
    worker.watch.look(now())

    assert worker.lag() is None


def test_a_clock_that_is_right_is_ready() -> None:
    worker = Worker()

    worker.watch.look(now())

    assert worker.health.parts[CLOCK] == (True, "")


def test_a_clock_that_has_jumped_is_red_with_the_reason_and_stays_spare() -> None:
    worker = Worker(refused={3: 120 * MINUTE})

    worker.watch.look(now())

    reason = "raw partition 3 is 7200 s ahead of a plausible time: check the clocks"
    assert worker.health.parts[CLOCK] == (False, reason)
    assert worker.health.ready
    name, labels = "leadstream_progress_refused_seconds", {"partition": "3"}
    assert worker.metrics.registry.get_sample_value(name, labels) == 7200

    worker.refused = {}
    worker.watch.look(now())

    assert worker.health.parts[CLOCK][0]
    assert worker.metrics.registry.get_sample_value(name, labels) is None


def test_a_worker_without_its_partitions_is_not_ready() -> None:
    worker = Worker()
    worker.watch.look(now())
    assert worker.health.ready

    worker.app.rebalancing = True
    worker.watch.look(now())

    assert not worker.health.ready


def test_a_worker_whose_heartbeats_are_not_answered_is_not_ready_and_its_lag_is_unknown() -> None:
    worker = Worker(FakeConsumer({EVENTS: now()}))
    worker.consumer.lease.granted(monotonic() - 12)

    worker.watch.look(now())

    assert worker.health.parts["kafka"] == (False, "no heartbeat was answered for 12 s")
    assert not worker.health.ready
    assert isnan(worker.lag() or 0)

    worker.consumer.lease.granted(monotonic())
    worker.watch.look(now())

    assert worker.health.ready
    assert worker.lag() == 0


def test_a_worker_that_failed_is_red() -> None:
    worker = Worker(FakeConsumer({}, failure=ArithmeticError("of a person")))

    worker.watch.look(now())

    assert worker.health.crashed == "ArithmeticError"


def test_a_stuck_batch_is_red_until_it_is_finished() -> None:
    worker = Worker()

    with worker.watch.batch(a_batch(last_offset=41)):
        worker.watch.look(now() + 3 * MINUTE)
        while_stuck = worker.health.crashed
    worker.watch.look(now() + 3 * MINUTE)

    assert while_stuck is not None
    assert while_stuck.startswith("a batch of messenger-events/3 is unfinished")
    assert worker.health.crashed is None


def test_a_batch_that_raises_leaves_the_error_to_the_transport() -> None:
    with pytest.raises(ArithmeticError), Worker().watch.batch(a_batch(last_offset=41)):
        raise ArithmeticError


TP0 = TP("messenger-events", 3)
TOO_LATE = NOON + PATIENCE + SECOND


def settled_at_noon() -> Vitals:
    vitals = Vitals(NOON)
    vitals.look(settled=True, recovered=0, at=NOON)
    return vitals


def test_a_worker_with_its_partitions_and_nothing_to_do_is_well() -> None:
    assert settled_at_noon().complaint(TOO_LATE) is None


def test_a_worker_that_never_gets_its_partitions_is_not() -> None:
    vitals = Vitals(NOON)
    vitals.look(settled=False, recovered=0, at=NOON + SECOND)

    assert vitals.complaint(NOON + PATIENCE) is None
    assert vitals.complaint(TOO_LATE) == "without its partitions for 121 s"


def test_a_rebalance_counts_from_its_beginning() -> None:
    vitals = settled_at_noon()
    vitals.look(settled=False, recovered=0, at=TOO_LATE)

    assert vitals.complaint(TOO_LATE + PATIENCE) is None
    assert vitals.complaint(TOO_LATE + PATIENCE + SECOND) is not None


def test_a_long_recovery_that_goes_on_is_no_reason_to_begin_it_again() -> None:
    vitals = Vitals(NOON)
    for seconds in range(0, 600, 60):
        vitals.look(settled=False, recovered=seconds, at=NOON + timedelta(seconds=seconds))

    assert vitals.complaint(NOON + timedelta(seconds=600)) is None


def test_a_batch_that_takes_longer_than_two_minutes_is_named() -> None:
    vitals = settled_at_noon()

    with vitals.batch(TP0, 41, NOON):
        early, late = vitals.complaint(NOON + PATIENCE), vitals.complaint(TOO_LATE)

    assert early is None
    assert late == "a batch of messenger-events/3 is unfinished after 121 s"
    assert vitals.complaint(TOO_LATE) is None
    assert vitals.finished == {TP0: 42}


def test_a_batch_that_raised_is_not_finished() -> None:
    vitals = settled_at_noon()

    with pytest.raises(ArithmeticError), vitals.batch(TP0, 41, NOON):
        raise ArithmeticError

    assert vitals.finished == {}
    assert vitals.complaint(TOO_LATE) is not None
