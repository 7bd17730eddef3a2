"""A delivery moves by the table of `State` and in no other way."""

import re
from itertools import product

import pytest

from ingest.delivery_state import MOVES, State, States
from tests.unit.ingest.test_keeper import a_delivery

pytestmark = pytest.mark.anyio
DELIVERY = a_delivery(1)


def states_with(state: State) -> States:
    states = States(0)
    states.add(DELIVERY, state)
    return states


def test_the_table_in_the_docstring_is_the_one_that_is_held() -> None:
    rows = re.findall(r"\| (\w+) +\|[^|\n]+\| (\w+) +\|", State.__doc__ or "")
    known = {state.name for state in State}

    assert {(State[before], State[after]) for before, after in rows if before in known} == MOVES


@pytest.mark.parametrize(("before", "after"), sorted(MOVES, key=str))
async def test_a_move_of_the_table_is_counted(before: State, after: State) -> None:
    states = states_with(before)
    states.move(DELIVERY, after)

    assert states.of(DELIVERY) is after
    assert (states.count[before], states.count[after]) == (0, 1)


@pytest.mark.parametrize(("before", "after"), sorted(set(product(State, State)) - MOVES, key=str))
async def test_any_other_move_is_a_bug(before: State, after: State) -> None:
    with pytest.raises(AssertionError, match=f"{before.value} cannot become {after.value}"):
        states_with(before).move(DELIVERY, after)


@pytest.mark.parametrize("state", State)
async def test_new_deliveries_wait_for_those_that_the_producer_lacks(state: State) -> None:
    states = states_with(state)
    ahead = state in (State.WAITING, State.SUSPECT)

    assert (states.ahead, states.some_ahead.is_set(), states.none_ahead.is_set()) == (int(ahead), ahead, not ahead)
    assert states.none_sent.is_set() is (state is not State.SENT)


async def test_a_delivery_that_the_disk_refuses_holds_nobody_up() -> None:
    states = states_with(State.WAITING)
    states.remove(DELIVERY)

    assert (states.ahead, states.none_ahead.is_set()) == (0, True)
