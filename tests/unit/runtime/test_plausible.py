"""A wall clock that is held against the time that has passed."""

from datetime import timedelta

import pytest

from runtime.plausible import PlausibleTime
from tests.builders import MINUTE, NOON, SECOND

BOOT = timedelta(days=3)
HOUR = timedelta(hours=1)
JUMPS = pytest.mark.parametrize("jump", [2 * HOUR, timedelta(days=31)])


def test_time_that_passes_by_both_clocks_is_plausible_however_long_nobody_looked() -> None:
    clock = PlausibleTime(NOON, BOOT)

    assert clock.at(NOON + timedelta(days=1), BOOT + timedelta(days=1)) == NOON + timedelta(days=1)


def test_a_clock_that_drifts_is_followed() -> None:
    clock = PlausibleTime(NOON, BOOT)

    shown = [NOON + minutes * (MINUTE + SECOND) for minutes in range(300)]

    assert [clock.at(wall, BOOT + minutes * MINUTE) for minutes, wall in enumerate(shown)] == shown


@JUMPS
def test_a_clock_that_jumps_ahead_and_back_gives_the_time_that_has_passed(jump: timedelta) -> None:
    clock = PlausibleTime(NOON, BOOT)

    assert clock.at(NOON + MINUTE + jump, BOOT + MINUTE) == NOON + MINUTE
    assert clock.at(NOON + 5 * HOUR + jump, BOOT + 5 * HOUR) == NOON + 5 * HOUR
    assert clock.at(NOON + 6 * HOUR, BOOT + 6 * HOUR) == NOON + 6 * HOUR


def test_a_clock_that_goes_back_gives_no_later_time_than_it_shows() -> None:
    clock = PlausibleTime(NOON + 2 * HOUR, BOOT)

    assert clock.at(NOON, BOOT) == NOON


def test_a_clock_that_goes_back_for_a_moment_is_believed_when_it_is_put_right() -> None:
    clock = PlausibleTime(NOON, BOOT)
    clock.at(NOON - 2 * HOUR, BOOT)

    assert clock.at(NOON + MINUTE, BOOT + MINUTE) == NOON + MINUTE


def test_a_jump_that_metas_stamp_confirms_is_believed() -> None:
    """As after a machine was paused, with its uptime."""
    clock = PlausibleTime(NOON, BOOT)

    clock.confirm(NOON + 8 * HOUR - SECOND, NOON + 8 * HOUR, BOOT)

    assert clock.at(NOON + 8 * HOUR, BOOT) == NOON + 8 * HOUR


def test_a_stamp_confirms_nothing_later_than_the_clock_or_itself() -> None:
    behind, ahead = PlausibleTime(NOON, BOOT), PlausibleTime(NOON, BOOT)

    behind.confirm(NOON + 8 * HOUR, NOON + MINUTE, BOOT)
    ahead.confirm(NOON, NOON + 2 * HOUR, BOOT + MINUTE)

    assert behind.at(NOON + 8 * HOUR, BOOT) == NOON + MINUTE
    assert ahead.at(NOON + 2 * HOUR, BOOT + MINUTE) == NOON + MINUTE
