"""Times are exact to the millisecond, in UTC, both ways."""

from datetime import UTC, datetime, timedelta, timezone

from hypothesis import given
from hypothesis import strategies as st

from runtime.clock import from_millis, now, to_millis


@given(st.integers(-62_135_596_800_000, 253_402_300_799_999))
def test_milliseconds_survive(millis: int) -> None:
    moment = from_millis(millis)

    assert to_millis(moment) == millis
    assert moment.tzinfo is UTC


def test_a_time_is_exact_where_floating_point_is_not() -> None:
    assert from_millis(1_772_452_807_251) == datetime(2026, 3, 2, 12, 0, 7, 251_000, UTC)


def test_what_is_below_a_millisecond_is_cut_off_towards_the_past() -> None:
    assert to_millis(datetime(1970, 1, 1, 0, 0, 0, 1_999, UTC)) == 1
    assert to_millis(datetime(1969, 12, 31, 23, 59, 59, 999_999, UTC)) == -1


def test_a_time_of_another_zone_is_the_same_time() -> None:
    there = datetime(1970, 1, 1, 2, tzinfo=timezone(timedelta(hours=2)))

    assert to_millis(there) == 0


def test_now_has_no_more_than_milliseconds_and_is_utc() -> None:
    moment = now()

    assert from_millis(to_millis(moment)) == moment
    assert moment.tzinfo is UTC
