"""What follows for a conversion, and what each answer of Meta's comes to."""

from datetime import timedelta

import pytest

from leads.records import ConversionStatus
from messenger.conversions import OLDEST_EVENT
from messenger.errors import (
    GraphError,
    InvalidRequest,
    NotPermitted,
    NotSent,
    OutcomeUnknown,
    PageBlocked,
    PersonUnavailable,
    Throttled,
)
from sinks.conversions.ledger import Entry
from sinks.conversions.next_step import Done, Drop, Report, Result, Settle, Step, next_step, result_of
from tests.builders import NOON

MINUTE = timedelta(minutes=1)


def step(status: ConversionStatus | None, *, age: timedelta = MINUTE, is_erased: bool = False) -> Step:
    entry = Entry(status, 3, NOON, NOON) if status is not None else None
    return next_step(NOON, entry, NOON + age, is_erased=is_erased)


@pytest.mark.parametrize("status", ["sent", "rejected", "expired", "in_doubt"])
def test_what_is_settled_stays_so(status: ConversionStatus) -> None:
    assert step(status) == Done()


@pytest.mark.parametrize("age", [MINUTE, 8 * OLDEST_EVENT])
@pytest.mark.parametrize("is_erased", [False, True])
def test_an_attempt_without_a_result_is_never_repeated(age: timedelta, *, is_erased: bool) -> None:
    assert step("attempting", age=age, is_erased=is_erased) == Settle("in_doubt", "ended_before_answer", 3)


@pytest.mark.parametrize(("status", "attempt"), [(None, 1), ("parked", 4)])
def test_what_meta_does_not_have_is_reported(status: ConversionStatus | None, attempt: int) -> None:
    assert step(status) == Report(attempt)


@pytest.mark.parametrize("status", [None, "parked"])
def test_nothing_is_reported_of_an_erased_person(status: ConversionStatus | None) -> None:
    assert step(status, is_erased=True) == Drop()
    assert step(status, is_erased=True, age=OLDEST_EVENT) == Drop()


@pytest.mark.parametrize(
    ("age", "is_reported"), [(OLDEST_EVENT - 2 * MINUTE, True), (OLDEST_EVENT - MINUTE, False), (OLDEST_EVENT, False)]
)
def test_nothing_is_reported_that_may_reach_meta_after_seven_days(age: timedelta, *, is_reported: bool) -> None:
    assert step("parked", age=age) == (Report(4) if is_reported else Settle("expired", "too_old", 3))


@pytest.mark.parametrize(
    ("fault", "count", "result"),
    [
        (None, 50, Result("sent")),
        (NotSent("x"), 50, Result("parked", "not_received")),
        (Throttled("x"), 50, Result("parked", "not_received")),
        (OutcomeUnknown("x"), 50, Result("in_doubt", "no_clear_answer")),
        (PageBlocked("x"), 50, Result("parked", "data_set_refused")),
        (NotPermitted("x"), 1, Result("parked", "data_set_refused")),
        (PersonUnavailable("x"), 1, Result("parked", "data_set_refused")),
        (InvalidRequest("x"), 2, Result("parked", "batch_refused")),
        (InvalidRequest("x"), 1, Result("rejected", "invalid_event")),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, GraphError) else None,
)
def test_an_answer_of_meta_says_what_becomes_of_the_events(
    fault: GraphError | None, count: int, result: Result
) -> None:
    assert result_of(fault, count) == result
