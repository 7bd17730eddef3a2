"""`leadstream warehouse sql`."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from cli.main import main


def _sql(tmp_path: Path, query: str, *options: str) -> Result:
    environ = {"LEADSTREAM_WAREHOUSE": str(tmp_path / "warehouse")}
    return CliRunner().invoke(main, ["warehouse", "sql", query, *options], env=environ)


def test_an_empty_warehouse_is_an_empty_answer(tmp_path: Path) -> None:
    result = _sql(tmp_path, "select lead_id, answers from leads", "--format", "csv")

    assert (result.exit_code, result.output) == (0, "lead_id,answers\n")


def test_values_are_json_with_their_types(tmp_path: Path) -> None:
    query = "select 1 as n, null as nothing, [{'q': 'é'}] as l, timestamptz '2026-05-06 12:00:00Z' as at"

    result = _sql(tmp_path, query, "--format", "json")

    expected = [{"n": 1, "nothing": None, "l": [{"q": "é"}], "at": "2026-05-06T12:00:00+00:00"}]
    assert json.loads(result.output) == expected


def test_a_table_says_how_many_rows_it_has(tmp_path: Path) -> None:
    result = _sql(tmp_path, "select 42 as answer")

    assert result.exit_code == 0
    assert "answer" in result.output
    assert "1 rows" in result.output


@pytest.mark.parametrize(
    "query", ["selec 1", "drop view leads", "select * from read_csv('/etc/hostname')", "copy leads to 'leads.csv'"]
)
def test_what_is_not_a_question_to_the_warehouse_is_refused_in_one_message(tmp_path: Path, query: str) -> None:
    result = _sql(tmp_path, query)

    assert result.exit_code == 1
    assert result.output.startswith("Error: ")
    assert "Traceback" not in result.output
