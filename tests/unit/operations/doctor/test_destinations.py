"""A destination that fails is a warning for a day, and then broken."""

from datetime import timedelta

import pytest

from operations.doctor.stages import destination_verdicts
from operations.stage_states import samples_in
from tests.builders import NOON


def metrics(*, disabled: int, failing_hours: float) -> str:
    since = (NOON - timedelta(hours=failing_hours)).timestamp() if failing_hours else 0
    return (
        "# TYPE leadstream_destination_disabled gauge\n"
        f'leadstream_destination_disabled{{destination="crm"}} {disabled}\n'
        "# TYPE leadstream_destination_failing_since gauge\n"
        f'leadstream_destination_failing_since{{destination="crm"}} {since}\n'
    )


@pytest.mark.parametrize(
    ("disabled", "failing_hours", "standing"),
    [(0, 0, "ok"), (0, 1, "warning"), (0, 23.9, "warning"), (0, 24, "broken"), (1, 0, "broken")],
)
def test_how_a_destination_fares(disabled: int, failing_hours: float, standing: str) -> None:
    [verdict] = destination_verdicts(samples_in(metrics(disabled=disabled, failing_hours=failing_hours)), NOON)

    assert (verdict.check, verdict.place, verdict.standing) == ("destination", "crm", standing)


def test_a_stage_without_destinations_has_no_verdict() -> None:
    assert destination_verdicts([], NOON) == []
