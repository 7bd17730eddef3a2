"""Committing follows the order of delivery."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.engine.delivery_order import DeliveryOrder


def order_of(*offsets: int) -> DeliveryOrder:
    order = DeliveryOrder()
    for offset in offsets:
        order.delivered(offset)
    return order


def test_nothing_is_committable_before_the_oldest_delivery_is_finished() -> None:
    order = order_of(10, 20)

    order.finished(20)

    assert order.committable is None
    assert order.waiting == 2


def test_a_gap_in_the_offsets_is_not_waited_for() -> None:
    order = order_of(10, 5000)

    order.finished(10)
    order.finished(5000)

    assert order.committable == 5001


def test_what_was_never_delivered_cannot_be_finished() -> None:
    order = order_of(10)

    order.finished(11)

    assert order.committable is None


def test_a_delivery_out_of_order_is_refused() -> None:
    order = order_of(10)

    with pytest.raises(ValueError, match="offset 10 is delivered after 10"):
        order.delivered(10)


@given(st.sets(st.integers(0, 1000), min_size=1), st.randoms(use_true_random=False))
def test_the_longest_finished_prefix_is_committable(offsets: set[int], chance: random.Random) -> None:
    deliveries = sorted(offsets)
    order = order_of(*deliveries)
    finished: set[int] = set()
    for offset in chance.sample(deliveries, len(deliveries)):
        order.finished(offset)
        finished.add(offset)

        prefix = [d for d in deliveries if all(earlier in finished for earlier in deliveries if earlier <= d)]

        assert order.committable == (prefix[-1] + 1 if prefix else None)
        assert order.waiting == len(deliveries) - len(prefix)
