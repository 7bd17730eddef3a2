"""The messaging window and thread control of a person."""

from datetime import UTC, datetime, timedelta

from leads.person import closes_at, control_expires_at

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)


def test_the_messaging_window_lasts_24_hours() -> None:
    assert closes_at(NOON) == datetime(2026, 3, 3, 12, tzinfo=UTC)


def test_thread_control_lasts_as_long_as_granted() -> None:
    assert control_expires_at(NOON, timedelta(days=4)) == datetime(2026, 3, 6, 12, tzinfo=UTC)
