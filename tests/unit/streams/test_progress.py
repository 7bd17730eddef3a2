"""Progress: what the splitter may say of how far it is."""

from datetime import datetime, timedelta

from streams.progress import CLOCK_SKEW, ProgressKeeper
from tests.builders import NOON, SECOND


def progress_of(keeper: ProgressKeeper, ends_seen_at: dict[int, datetime]) -> tuple[tuple[int, datetime], ...]:
    keeper.see(ends_seen_at)
    return keeper.progress.received_until


def test_progress_comes_from_the_records_while_there_are_more() -> None:
    keeper = ProgressKeeper()
    keeper.read(0, NOON)

    assert progress_of(keeper, {}) == ((0, NOON),)


def test_progress_comes_from_the_clock_at_the_end_of_the_log_less_the_skew() -> None:
    keeper = ProgressKeeper()
    keeper.read(0, NOON)

    report = progress_of(keeper, {0: NOON + SECOND, 1: NOON + SECOND})

    assert report == ((0, NOON + SECOND - CLOCK_SKEW), (1, NOON + SECOND - CLOCK_SKEW))


def test_progress_never_runs_backwards() -> None:
    keeper = ProgressKeeper()
    keeper.see({0: NOON + SECOND})

    assert progress_of(keeper, {0: NOON}) == ((0, NOON + SECOND - CLOCK_SKEW),)


def test_keeper_is_behind_until_every_partition_has_passed_what_was_read() -> None:
    keeper = ProgressKeeper()
    keeper.see({1: NOON})
    keeper.read(0, NOON)

    before = keeper.is_behind
    keeper.see({0: NOON + SECOND})
    one_passed = keeper.is_behind
    keeper.see({1: NOON + SECOND})

    assert (before, one_passed, keeper.is_behind) == (True, True, False)


def test_partition_that_went_to_another_worker_is_not_spoken_for() -> None:
    keeper = ProgressKeeper()
    keeper.see({0: NOON, 1: NOON + timedelta(seconds=1)})

    keeper.forget(frozenset({1}))

    assert [partition for partition, _ in progress_of(keeper, {})] == [1]
