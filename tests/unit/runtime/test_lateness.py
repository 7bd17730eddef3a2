"""The bound of a lag in seconds is never less than the lag."""

from datetime import timedelta

from runtime.lateness import Lateness
from tests.builders import NOON, SECOND


def test_it_counts_from_the_later_of_the_last_record_and_the_last_time_at_the_end() -> None:
    lateness = Lateness()

    lateness.note("a", NOON)
    lateness.note("a", NOON - 9 * SECOND)

    assert lateness.seconds("a", NOON + 5 * SECOND) == 5


def test_a_new_partition_is_as_late_as_it_has_been_here() -> None:
    lateness = Lateness()

    assert lateness.seconds("a", NOON) == 0
    assert lateness.seconds("a", NOON + timedelta(hours=1)) == 3600


def test_a_stamp_ahead_of_our_clock_is_no_lag() -> None:
    lateness = Lateness()
    lateness.note("a", NOON + SECOND)

    assert lateness.seconds("a", NOON) == 0


def test_a_partition_that_was_away_is_new_when_it_comes_back() -> None:
    lateness = Lateness()
    lateness.note("a", NOON)
    lateness.keep(["b"])

    assert lateness.seconds("a", NOON + SECOND) == 0
