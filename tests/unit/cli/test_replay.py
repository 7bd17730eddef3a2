"""How places, durations and names are written, and what a command refuses."""

from datetime import UTC, datetime, timedelta
from typing import Any

import click
import pytest
from click.testing import CliRunner

from cli.main import main
from cli.options import DurationType, PlaceType, ReplayName
from cli.terminal import lead_columns
from operations.masking import masked
from schemas.personal import MASK, PERSONAL
from streams.replay.plan import Offset
from tests.builders import CITY, NOON, a_lead


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("0", Offset(0)),
        ("3:1200", Offset(1200, 3)),
        ("2026-03-02T12:00", datetime(2026, 3, 2, 12, tzinfo=UTC)),
        ("2026-03-02", datetime(2026, 3, 2, tzinfo=UTC)),
        ("2026-03-02T12:00:00.123456+02:00", datetime(2026, 3, 2, 10, 0, 0, 123000, tzinfo=UTC)),
    ],
)
def test_a_place_is_an_offset_or_a_time(text: str, place: object) -> None:
    assert PlaceType().convert(text, None, None) == place


def test_a_duration_has_a_unit() -> None:
    assert DurationType().convert("15m", None, None) == timedelta(minutes=15)


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (PlaceType(), "yesterday"),
        (PlaceType(), "-1"),
        (PlaceType(), "1:"),
        (DurationType(), "15"),
        (DurationType(), "m"),
        (ReplayName(), "Fix 7"),
        (ReplayName(), ""),
        (ReplayName(), "a/b"),
        (ReplayName(), "x" * 64),
    ],
)
def test_what_is_neither_is_refused(kind: click.ParamType, text: str) -> None:
    with pytest.raises(click.BadParameter):
        kind.convert(text, None, None)


@pytest.mark.parametrize(
    "arguments",
    [
        ["replay", "run", "--from", "0"],
        ["replay", "plan"],
        ["replay", "run", "--from", "soon", "--id", "x"],
        ["leads", "list", "--since", "3:7"],
    ],
    ids=["no name", "no start", "no place", "an offset as a time"],
)
def test_bad_input_ends_with_a_line_and_a_status(arguments: list[str]) -> None:
    result = CliRunner().invoke(main, arguments)

    assert result.exit_code == 2
    assert "Error: " in result.output


@pytest.mark.parametrize(
    "arguments", [["replay"], ["replay", "run"], ["replay", "diff"], ["replay", "promote"], ["leads", "tail"]]
)
def test_help_shows_an_example(arguments: list[str]) -> None:
    assert "Example:" in CliRunner().invoke(main, [*arguments, "--help"]).output


@pytest.mark.parametrize("field", sorted(PERSONAL))
def test_what_is_personal_is_masked_unless_asked_for(field: str) -> None:
    value: Any = (CITY,) if field == "answers" else "Menlo Park"

    assert "Menlo" not in masked(field, value, show_pii=False)
    assert "Menlo" in masked(field, value, show_pii=True)


def test_what_is_absent_is_not_masked() -> None:
    assert masked("summary_text", None, show_pii=False) == masked("answers", (), show_pii=False) == "—"


def test_a_line_of_a_lead_tells_where_its_answers_are_from() -> None:
    told = lead_columns(a_lead(), show_pii=False)

    assert told["Answers"] == "2 by referral"
    assert told["PSID"] == MASK
    assert told["Updated (UTC)"] == f"{NOON:%Y-%m-%d %H:%M:%S}.000"
