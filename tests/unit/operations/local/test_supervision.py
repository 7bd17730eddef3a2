"""When a supervised process is taken to hang, and when pauses begin anew."""

from operations.local.supervision import Watch


def test_pauses_grow_to_half_a_minute() -> None:
    watch = Watch()

    assert [watch.pause() for _ in range(7)] == [1, 2, 4, 8, 16, 30, 30]


def test_a_minute_of_health_lets_pauses_begin_anew() -> None:
    watch = Watch()
    for _ in range(4):
        watch.pause()
    for _ in range(11):
        watch.report(well=True)
    assert watch.pause() == 16

    for _ in range(12):
        watch.report(well=True)

    assert watch.pause() == 1


def test_two_minutes_without_health_are_a_hang_and_one_answer_ends_them() -> None:
    watch = Watch()
    watch.report(well=True)
    for _ in range(23):
        watch.report(well=False)
    assert not watch.is_hung
    watch.report(well=True)
    for _ in range(23):
        watch.report(well=False)
    assert not watch.is_hung

    watch.report(well=False)

    assert watch.is_hung


def test_a_process_that_has_not_answered_yet_has_ten_minutes() -> None:
    watch = Watch()
    for _ in range(119):
        watch.report(well=False)
    assert not watch.is_hung

    watch.report(well=False)

    assert watch.is_hung


def test_a_replaced_process_is_given_time_as_at_its_first_start() -> None:
    watch = Watch()
    watch.report(well=True)
    for _ in range(24):
        watch.report(well=False)
    watch.pause()

    watch.report(well=False)

    assert not watch.is_hung


def test_looks_are_five_seconds_apart() -> None:
    watch = Watch()

    assert [at for at in range(100, 112) if watch.is_due(at)] == [100, 105, 110]
