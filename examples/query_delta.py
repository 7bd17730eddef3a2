"""Counts leads in the warehouse's Delta tables with DuckDB, as any engine can, while the sink writes to them.

python examples/query_delta.py .leadstream/warehouse
"""

import sys
from pathlib import Path
from typing import Any

import duckdb
from deltalake import DeltaTable

# The events hold every revision; the newest of each lead is the lead as it stands.
_QUESTION = """
    with leads as (
        from read_parquet($files, union_by_name = true)
        qualify row_number() over (partition by lead_id order by revision desc) = 1
    )
    select ad.ad_title, outcome, count(*) as leads from leads group by all order by all
"""


def leads_by_ad(warehouse: Path) -> list[tuple[Any, ...]]:
    """Ad title, outcome and how many leads, of one snapshot of the table."""
    files = DeltaTable(warehouse / "lead_events").file_uris()
    if not files:
        return []
    with duckdb.connect(":memory:") as connection:
        return list(connection.execute(_QUESTION, {"files": files}).fetchall())


def main() -> None:
    for ad_title, outcome, leads in leads_by_ad(Path(sys.argv[1] if len(sys.argv) > 1 else ".leadstream/warehouse")):
        print(f"{ad_title or 'no ad':<30} {outcome:<10} {leads}")  # noqa: T201


if __name__ == "__main__":
    main()
