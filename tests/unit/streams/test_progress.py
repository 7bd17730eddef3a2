"""Progress: what the splitter may say of how far it is."""

from datetime import datetime, timedelta

from streams.progress import CLOCK_SKEW, ProgressKeeper
from tests.builders import NOON, SECOND

NOW = NOON + 2 * SECOND
JUMP = timedelta(hours=2)


def progress_of(keeper: ProgressKeeper, ends_seen_at: dict[int, datetime]) -> tuple[tuple[int, datetime], ...]:
    keeper.see(ends_seen_at, NOW, NOW)
    return keeper.progress.received_until


def test_progress_comes_from_the_records_while_there_are_more() -> None:
    keeper = ProgressKeeper()
    keeper.read(0, NOON, NOON)

    assert progress_of(keeper, {}) == ((0, NOON),)


def test_progress_comes_from_the_clock_at_the_end_of_the_log_less_the_skew() -> None:
    keeper = ProgressKeeper()
    keeper.read(0, NOON, NOON)

    report = progress_of(keeper, {0: NOON + SECOND, 1: NOON + SECOND})

    assert report == ((0, NOON + SECOND - CLOCK_SKEW), (1, NOON + SECOND - CLOCK_SKEW))


def test_progress_never_runs_backwards() -> None:
    keeper = ProgressKeeper()
    keeper.see({0: NOON + SECOND}, NOW, NOW)

    assert progress_of(keeper, {0: NOON}) == ((0, NOON + SECOND - CLOCK_SKEW),)


def test_partition_that_went_to_another_worker_is_not_spoken_for() -> None:
    keeper = ProgressKeeper()
    keeper.see({0: NOON, 1: NOON + timedelta(seconds=1)}, NOW, NOW)

    keeper.forget(frozenset({1}))

    assert [partition for partition, _ in progress_of(keeper, {})] == [1]


def test_a_record_received_ahead_of_the_plausible_time_makes_no_progress() -> None:
    keeper = ProgressKeeper()
    keeper.see({0: NOON}, NOW, NOW)
    keeper.read(0, NOW + JUMP, NOW + JUMP)

    assert progress_of(keeper, {}) == ((0, NOON - CLOCK_SKEW),)
    assert keeper.refused == {0: JUMP}


def test_a_stamp_that_is_ahead_is_told_where_the_time_of_receipt_is_right() -> None:
    keeper = ProgressKeeper()
    keeper.read(0, NOON, NOW + JUMP)

    assert progress_of(keeper, {}) == ((0, NOON),)
    assert keeper.refused == {0: JUMP}


def test_an_end_that_a_clock_saw_that_is_ahead_makes_progress_by_the_plausible_time() -> None:
    keeper = ProgressKeeper()
    keeper.see({0: NOON + SECOND + JUMP}, NOW + JUMP, NOW)

    assert keeper.progress.received_until == ((0, NOON + SECOND - CLOCK_SKEW),)
    assert keeper.refused == {0: JUMP - SECOND}


def test_an_end_that_was_seen_before_the_clock_went_back_makes_no_progress() -> None:
    keeper = ProgressKeeper()
    keeper.read(0, NOON, NOON)

    assert progress_of(keeper, {0: NOON + JUMP}) == ((0, NOON),)


def test_an_end_that_was_seen_before_the_clock_jumped_makes_no_progress() -> None:
    keeper = ProgressKeeper()
    keeper.read(0, NOON, NOON)
    keeper.see({0: NOON + SECOND}, NOW + JUMP, NOW)

    assert keeper.progress.received_until == ((0, NOON),)


def test_nothing_is_refused_once_the_clock_is_right() -> None:
    keeper = ProgressKeeper()
    keeper.read(0, NOON, NOW + JUMP)
    keeper.see({0: NOW + JUMP}, NOW + JUMP, NOW)
    keeper.read(0, NOON + SECOND, NOON + SECOND)

    assert progress_of(keeper, {0: NOW}) == ((0, NOW - CLOCK_SKEW),)
    assert keeper.refused == {}


def test_progress_that_is_no_longer_plausible_is_withdrawn() -> None:
    keeper = ProgressKeeper()
    keeper.see({0: NOW + JUMP, 1: NOW + JUMP}, NOW + JUMP, NOW + JUMP)

    assert progress_of(keeper, {0: NOON}) == ((0, NOON - CLOCK_SKEW),)
