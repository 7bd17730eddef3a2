"""A process is ready while it can do its work."""

from runtime.health import Health


def test_a_spare_part_that_fails_is_shown_and_does_not_make_it_unready() -> None:
    health = Health(spare=frozenset({"kafka"}))
    health.report("spool", ready=True)
    health.report("kafka", ready=False, seen="no answer")

    assert health.ready
    assert health.parts["kafka"] == (False, "no answer")


def test_a_spare_part_alone_does_not_make_it_ready() -> None:
    health = Health(spare=frozenset({"kafka"}))
    health.report("kafka", ready=True)

    assert not health.ready
