"""Files of both warehouses: the same columns with the same types, whatever the engine."""

from pathlib import Path

import pytest
from click.testing import CliRunner
from pyarrow import parquet

from cli.main import main
from messenger.events import Ad
from sinks.warehouse.query import types_of
from sinks.warehouse.tables import TABLES
from sinks.warehouse.views import VIEWS
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


@pytest.mark.parametrize("masks", [[], ["--mask-pii"]])
def test_tables_and_views_are_parquet_with_the_same_types_and_rows(
    target: Target, tmp_path: Path, masks: list[str]
) -> None:
    writer = target.open()
    ends = {leads(0): 1, messages(0): 1, outcomes(0): 1, refused(0): 1}
    writer.open(ends)
    rows = {
        "leads": [lead_row(0, 0, ad=Ad("120", "Summer", None, None))],
        "messenger-events": [message_row(0)],
        "followup-outcomes": [outcome_row(0, 0, "c1", "sent", lead_id="l1", mid="m_1")],
        "messenger-webhooks-dlq": [dead_letter(0, b"\xff")],
    }
    writer.write(rows, ends)

    for name in [*(table.events for table in TABLES), "leads", "followup_outcomes", *(view.name for view in VIEWS)]:
        file = tmp_path / f"{name}.parquet"
        result = CliRunner().invoke(
            main, ["warehouse", "export", name, str(file), *masks], env={"LEADSTREAM_WAREHOUSE": target.url}
        )
        found = parquet.read_table(file)

        assert result.exit_code == 0, result.output
        expected = target.answer(f"select * from {name}")
        assert (tuple(found.column_names), found.num_rows) == (expected.columns, len(expected.rows))
        if not masks:
            assert [tuple(row.values()) for row in found.to_pylist()] == list(expected.rows)
            assert dict(zip(found.schema.names, found.schema.types, strict=True)) == types_of(name)
