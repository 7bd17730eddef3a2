"""The outcomes of a person's commands tell whether they opted out."""

import pytest
from msgspec.structs import replace

from operations.followups import has_opted_out
from tests.unit.sinks.fakes import NOON
from tests.unit.sinks.outcomes import an_outcome


@pytest.mark.parametrize(
    ("reasons", "opted_out"),
    [
        ((), False),
        (("reply",), False),
        (("opted_out",), True),
        (("opted_out", "opted_in"), False),
        (("opted_out", "opted_in", "opted_out", "superseded"), True),
    ],
)
def test_the_newest_notice_says_whether_the_person_opted_out(reasons: tuple[str, ...], opted_out: bool) -> None:
    outcomes = {
        str(second): replace(
            an_outcome(str(second), "cancelled"), reason=reason, occurred_at=NOON.replace(second=second)
        )
        for second, reason in enumerate(reasons)
    }

    assert has_opted_out(outcomes) == opted_out
