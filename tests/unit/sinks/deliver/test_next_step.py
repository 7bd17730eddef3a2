"""When a delivery is tried again, when it is given up, and how a destination is spared while it fails."""

from datetime import timedelta

import pytest

from sinks.deliver.client import Answer
from sinks.deliver.next_step import SCHEDULE, DeliverLimits, Fortune, verdict_of
from tests.builders import NOON

REFUSED, AWAY = Answer(status=500), Answer(fault="connection")


def fortune(fraction: float = 0.5) -> Fortune:
    return Fortune(DeliverLimits(), lambda: fraction)


def test_the_schedule_takes_days() -> None:
    assert timedelta(days=3) < sum(SCHEDULE, timedelta(0)) < timedelta(days=4)
    assert list(SCHEDULE) == sorted(SCHEDULE)


@pytest.mark.parametrize(("fraction", "share"), [(0.0, 0.75), (0.5, 1.0), (1.0, 1.25)])
def test_each_pause_is_that_of_the_schedule_with_jitter(fraction: float, share: float) -> None:
    own = fortune(fraction)

    assert [own.again_after(number, REFUSED) for number in range(1, len(SCHEDULE) + 1)] == [
        pause * share for pause in SCHEDULE
    ]


def test_a_delivery_is_given_up_at_the_end_of_its_schedule() -> None:
    assert fortune().again_after(len(SCHEDULE) + 1, REFUSED) is None


def test_while_the_destination_fails_nothing_is_given_up() -> None:
    failing = fortune()
    for _ in range(DeliverLimits().failing_after):
        failing.fail(AWAY, NOON)

    assert failing.is_failing
    assert failing.again_after(len(SCHEDULE) + 1, AWAY) == timedelta(0)


def test_a_failing_destination_is_tried_with_one_call_after_pauses_that_grow_up_to_a_limit() -> None:
    failing, pauses = fortune(), []
    for _ in range(30):
        failing.fail(AWAY, NOON)
        pauses.append((failing.held_until or NOON) - NOON)
        failing.held_until = None

    assert pauses[:9] == [timedelta(0)] * 9
    assert pauses[9:13] == [timedelta(seconds=seconds) for seconds in (1, 2, 4, 8)]
    assert pauses[-1] == DeliverLimits().longest_pause
    assert failing.may_call(NOON, 0)
    assert not failing.may_call(NOON, 1)


@pytest.mark.parametrize(("fraction", "same"), [(0.2, True), (0.8, False)])
def test_a_failing_destination_is_tried_with_the_same_delivery_and_with_others(fraction: float, *, same: bool) -> None:
    failing = fortune(fraction)
    assert not failing.tries_the_same()

    for _ in range(10):
        failing.fail(AWAY, NOON)

    assert failing.tries_the_same() is same


def test_a_success_ends_it_at_once() -> None:
    failing = fortune()
    for _ in range(10):
        failing.fail(AWAY, NOON)
    assert failing.failing_since == NOON

    assert failing.succeed()

    assert failing.failing_since is None
    assert failing.may_call(NOON, 7)
    assert not failing.may_call(NOON, 8)
    assert not failing.succeed()


@pytest.mark.parametrize(("asked", "waited"), [(60, 60), (10 * 24 * 3600, 24 * 3600)])
def test_retry_after_holds_the_delivery_and_the_destination_within_bounds(asked: int, waited: int) -> None:
    busy, answer = fortune(), Answer(status=429, retry_after=timedelta(seconds=asked))

    busy.fail(answer, NOON)

    assert busy.again_after(1, answer) == timedelta(seconds=waited)
    assert not busy.may_call(NOON + timedelta(seconds=waited - 1), 0)
    assert busy.may_call(NOON + timedelta(seconds=waited), 0)


@pytest.mark.parametrize("status", [100, 301, 400, 404, 429, 500, 503])
def test_any_other_status_than_a_success_is_a_failure(status: int) -> None:
    assert verdict_of(Answer(status=status), is_erasure=False) == "failure"


def test_a_success_and_410_are_told_apart() -> None:
    verdicts = [verdict_of(Answer(status=status), is_erasure=False) for status in (200, 204, 299, 410)]

    assert verdicts == ["delivered", "delivered", "delivered", "gone"]


def test_who_does_not_know_a_lead_has_erased_it() -> None:
    assert verdict_of(Answer(status=404), is_erasure=True) == "delivered"
