"""When a streams worker is to be replaced."""

from datetime import timedelta

import pytest
from faust.types import TP

from streams.vitals import PATIENCE, Vitals
from tests.builders import NOON, SECOND

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
