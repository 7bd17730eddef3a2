"""The messaging window and thread control, at their boundaries."""

from datetime import UTC, datetime, timedelta

import pytest

from leads.window import closes_at, control_expires_at, is_open, parse_control_expiration

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
MILLISECOND = timedelta(milliseconds=1)


@pytest.mark.parametrize(
    ("after_the_message", "expected"),
    [
        (timedelta(0), True),
        (timedelta(hours=24) - MILLISECOND, True),
        (timedelta(hours=24), False),
        (timedelta(hours=24) + MILLISECOND, False),
    ],
)
def test_the_messaging_window_is_closed_at_24_hours(after_the_message: timedelta, expected: bool) -> None:
    assert is_open(NOON + after_the_message, closes_at(NOON)) is expected


def test_thread_control_lasts_as_long_as_granted() -> None:
    assert control_expires_at(NOON, timedelta(days=4)) == datetime(2026, 3, 6, 12, tzinfo=UTC)


@pytest.mark.parametrize("days", range(1, 8))
def test_whole_days_up_to_seven_are_granted(days: int) -> None:
    assert parse_control_expiration(days) == timedelta(days=days)


@pytest.mark.parametrize("value", [0, -1, 8, 30, 4.0, 1.5, True, "4", "", None, [4], {}, 10**400, float("nan")])
def test_an_invalid_expiration_means_one_day(value: object) -> None:
    assert parse_control_expiration(value) == timedelta(days=1)


@pytest.mark.parametrize(("days", "expected"), [(30, 30), (31, 1)])
def test_the_ceiling_of_the_changelog_can_be_asked_for(days: int, expected: int) -> None:
    assert parse_control_expiration(days, ceiling=timedelta(days=30)) == timedelta(days=expected)
