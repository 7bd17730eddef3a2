"""A moment is the same moment in whatever engine, session or time zone somebody reads the warehouse."""

import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import psycopg
import pytest

from tests.integration.warehouses import Target
from tests.warehouse_rows import lead_row, leads

SEEN = datetime(2026, 11, 1, 2, 30, 15, 250_000, UTC)
# Early enough that it is still the day before in America.
_ELSEWHERE = "America/New_York"


def _filled(target: Target) -> Target:
    writer = target.open()
    writer.open([leads(0)])
    writer.write({"leads": [lead_row(0, 0, first_seen_at=SEEN)]}, {leads(0): 1})
    writer.fold()
    writer.close()
    return target


def test_sql_answers_in_utc_and_days_are_those_of_utc_wherever_it_runs(target: Target) -> None:
    _filled(target)
    code = (
        "import sys; from sinks.warehouse.query import ask;"
        "[(seen, day)] = ask(sys.argv[1], 'select first_seen_at, day from lead_journeys').rows;"
        "print(seen.isoformat(), day)"
    )

    done = subprocess.run(
        [sys.executable, "-c", code, target.url],
        env={**os.environ, "TZ": _ELSEWHERE, "PGTZ": _ELSEWHERE},
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stdout == "2026-11-01T02:30:15.250000+00:00 2026-11-01\n"


@pytest.mark.parametrize("table", ["lead_events", "leads"])
def test_polars_reads_delta_in_utc(tmp_path: Path, table: str) -> None:
    _filled(Target(str(tmp_path)))

    found = pl.read_delta(str(tmp_path / table))

    assert found.schema["first_seen_at"] == pl.Datetime("us", "UTC")
    assert found["first_seen_at"].to_list() == [SEEN]


def test_a_session_of_another_time_zone_reads_the_same_moment_from_postgresql(postgres_database: str) -> None:
    _filled(Target(postgres_database))

    with psycopg.connect(postgres_database, options=f"-c TimeZone={_ELSEWHERE}") as connection:
        [(seen, day)] = connection.execute("select first_seen_at, day from lead_journeys").fetchall()

    assert (seen, day) == (SEEN, SEEN.date())
