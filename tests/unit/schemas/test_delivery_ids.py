"""The id of a delivery says when it was received."""

from datetime import UTC, datetime, timedelta

import pytest

from schemas.delivery_ids import DELIVERY_ID, delivery_id, received_about
from tests.builders import NOON

INSTANCE = "bef852e6721ee5df"


@pytest.mark.parametrize("number", [0, 1, 2**32 - 1, 2**32, 10**12])
def test_an_id_names_its_second_and_has_one_form(number: int) -> None:
    identity = delivery_id(INSTANCE, NOON + timedelta(milliseconds=999), number)

    assert DELIVERY_ID.fullmatch(identity)
    assert identity.startswith(INSTANCE)
    assert received_about(identity) == NOON


def test_ids_of_one_second_differ() -> None:
    assert len({delivery_id(INSTANCE, NOON, number) for number in range(1000)}) == 1000


@pytest.mark.parametrize("year", [1969, 2107])
def test_a_clock_that_is_far_off_still_gives_ids(year: int) -> None:
    assert DELIVERY_ID.fullmatch(delivery_id(INSTANCE, datetime(year, 1, 1, tzinfo=UTC), 1))


@pytest.mark.parametrize("made_up", ["0" * 32, "f" * 32])
def test_an_id_that_was_made_up_names_a_time_too(made_up: str) -> None:
    assert isinstance(received_about(made_up) - timedelta(minutes=1), datetime)
