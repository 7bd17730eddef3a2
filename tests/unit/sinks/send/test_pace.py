"""Rates and pauses."""

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from sinks.send.pace import Pace, pause_after
from tests.unit.sinks.fakes import NOON


def test_turns_of_a_page_are_spaced_evenly() -> None:
    pace = Pace(per_second=4)

    turns = [pace.reserve("page", NOON) for _ in range(3)]

    assert turns == [NOON + timedelta(milliseconds=250 * number) for number in range(3)]


def test_pages_do_not_share_a_rate() -> None:
    pace = Pace(per_second=1)
    pace.reserve("one", NOON)

    assert pace.reserve("two", NOON) == NOON


def test_unused_turns_are_not_saved_up() -> None:
    pace = Pace(per_second=1)
    later = NOON + timedelta(minutes=1)
    pace.reserve("page", NOON)

    assert [pace.reserve("page", later) for _ in range(2)] == [later, later + timedelta(seconds=1)]


def test_a_held_page_gets_no_turn_before_it_is_over() -> None:
    pace = Pace(per_second=1)
    pace.hold("page", NOON + timedelta(minutes=5))

    assert pace.reserve("page", NOON) == NOON + timedelta(minutes=5)


@given(st.integers(1, 10_000), st.floats(0, 1))
def test_a_pause_is_never_longer_than_two_minutes(failures: int, fraction: float) -> None:
    assert timedelta() <= pause_after(failures, lambda: fraction) <= timedelta(minutes=2)


def test_pauses_double() -> None:
    assert [pause_after(number, lambda: 1.0).total_seconds() for number in (1, 2, 3, 8)] == [1, 2, 4, 120]
