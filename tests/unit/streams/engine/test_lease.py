"""A worker writes only while it is a member."""

import pytest

from streams.engine.lease import Lease, MembershipLost


def test_a_lease_holds_before_the_worker_has_joined_any_group() -> None:
    assert Lease(10).holds(at=0)


def test_a_lease_runs_from_when_the_heartbeat_was_sent() -> None:
    lease = Lease(10)

    lease.granted(asked_at=100)

    assert lease.holds(at=109.9)
    assert not lease.holds(at=110)


def test_a_heartbeat_renews_a_lease_that_has_run_out() -> None:
    lease = Lease(10)
    lease.granted(asked_at=100)

    lease.granted(asked_at=200)

    assert lease.holds(at=205)


def test_a_worker_that_the_group_has_dropped_is_told_so_however_young_its_lease() -> None:
    lease = Lease(10)
    lease.granted(asked_at=100)

    lease.lost()

    with pytest.raises(MembershipLost):
        lease.holds(at=101)


def test_a_lease_is_answered_until_its_term_is_over_or_it_is_lost() -> None:
    lease = Lease(10)
    assert lease.is_answered(at=0)

    lease.granted(asked_at=100)
    assert lease.is_answered(at=109.9)
    assert not lease.is_answered(at=110)

    lease.lost()
    assert not lease.is_answered(at=101)


def test_a_worker_that_has_joined_again_may_write_again() -> None:
    lease = Lease(10)
    lease.lost()

    lease.granted(asked_at=100)

    assert lease.holds(at=101)
