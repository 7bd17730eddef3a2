"""Files of both warehouses: the same columns with the same types, whatever the engine."""

from pathlib import Path
from typing import Any

from click.testing import CliRunner
from pyarrow import parquet

from cli.main import main
from messenger.events import Ad, Answer
from sinks.warehouse.query import types_of
from sinks.warehouse.tables import TABLES
from sinks.warehouse.views import VIEWS
from tests.builders import PERSON
from tests.integration.warehouses import Target
from tests.warehouse_rows import (
    dead_letter,
    lead_row,
    leads,
    message_row,
    messages,
    outcome_row,
    outcomes,
    refused,
)


def test_tables_and_views_are_parquet_with_the_same_types_and_rows(target: Target, tmp_path: Path) -> None:
    writer = target.open()
    ends = {leads(0): 1, messages(0): 1, outcomes(0): 1, refused(0): 1}
    writer.open(ends)
    rows = {
        "leads": [lead_row(0, 0, ad=Ad("120", "Summer", None, None), answers=(Answer("City?", "=cmd()"),))],
        "messenger-events": [message_row(0)],
        "followup-outcomes": [outcome_row(0, 0, "c1", "sent", lead_id="l1", mid="m_1")],
        "messenger-webhooks-dlq": [dead_letter(0, b"\xff")],
    }
    writer.write(rows, ends)

    for name in [*(table.events for table in TABLES), "leads", "followup_outcomes", *(view.name for view in VIEWS)]:
        plain, hidden = exported(target, name, tmp_path), exported(target, name, tmp_path, "--mask-pii")

        expected = target.answer(f"select * from {name}")
        assert [tuple(row.values()) for row in plain.to_pylist()] == list(expected.rows)
        assert dict(zip(plain.schema.names, plain.schema.types, strict=True)) == types_of(name)
        assert not {"null", "large_string"} & {str(type_) for type_ in plain.schema.types}
        assert tuple(plain.column_names) == tuple(hidden.column_names) == expected.columns
        assert hidden.num_rows == plain.num_rows
        assert not [secret for secret in (PERSON, "=cmd()") if secret in str(hidden.to_pylist())]


def exported(target: Target, name: str, folder: Path, *masks: str) -> Any:
    file = folder / f"{name}{len(masks)}.parquet"
    result = CliRunner().invoke(
        main, ["warehouse", "export", name, str(file), *masks], env={"LEADSTREAM_WAREHOUSE": target.url}
    )
    assert result.exit_code == 0, result.output
    return parquet.read_table(file)
