"""What is particular to PostgreSQL: addresses, privileges, tables that somebody dropped, text that it refuses."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest
from click.testing import CliRunner

from cli.main import main
from sinks.consume import Unavailable, Unusable
from sinks.warehouse.removals import KeyForgotten, PersonForgotten
from sinks.warehouse.tables import LEAD_TABLE
from tests.builders import NOON, PAGE
from tests.integration.warehouses import Target
from tests.warehouse_rows import dead_letter, lead_row, leads, message_row, messages, refused


@pytest.fixture
def server(postgres_database: str) -> Iterator[Target]:
    target = Target(postgres_database)
    yield target
    for writer in target.writers:
        writer.close()


def _execute(url: str, statement: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(statement.encode())


@pytest.mark.parametrize("verb", [("sql", "select 1"), ("status",), ("rebuild",), ("export", "leads", "leads.csv")])
@pytest.mark.parametrize(
    "address",
    ["u:sec%zzret@127.0.0.1:1/db", "u:x@secret@127.0.0.1:1/db", "u:x/secret@127.0.0.1:1/db", "u:secret@127.0.0.1:1/db"],
)
def test_an_address_that_leads_nowhere_is_told_in_one_line_without_the_password(
    address: str, verb: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    environ = {"LEADSTREAM_WAREHOUSE": f"postgresql://{address}", "LEADSTREAM_STATE_DIR": str(tmp_path)}

    result = CliRunner().invoke(main, ["warehouse", *verb], env=environ)

    assert (result.exit_code, isinstance(result.exception, SystemExit)) == (1, True)
    assert len(result.output.splitlines()) == 1
    assert result.output.startswith("Error: ")
    assert "ret" not in result.output
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("address", ["u:sec%zzret@127.0.0.1:1/db", "u:secret@127.0.0.1:1/db"])
def test_a_sink_says_so_too(address: str) -> None:
    with pytest.raises(Unusable) as told:
        Target(f"postgresql://{address}").open().open([])

    assert "ret" not in str(told.value)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("name", ["lead_events", "leads"])
def test_a_table_that_was_dropped_is_not_made_anew_beside_its_offsets(server: Target, name: str) -> None:
    writer = server.open()
    writer.open([leads(0)])
    writer.write({"leads": [lead_row(0, 0)]}, {leads(0): 1})
    _execute(server.url, f"drop table {name} cascade")

    with pytest.raises(Unusable, match=f"table {name} is not there, but kafka_offsets has leads as written"):
        server.open()
    with pytest.raises(Unusable, match="does not exist"):
        writer.write({"leads": [lead_row(0, 1)]}, {leads(0): 2})


def test_a_table_that_nothing_was_written_to_is_made_anew(server: Target) -> None:
    writer = server.open()
    writer.open([leads(0)])
    writer.write({"leads": [lead_row(0, 0)]}, {leads(0): 1})
    _execute(server.url, "drop table followup_outcomes cascade")

    server.open()

    assert server.ask("select count(*) from followup_outcomes") == [(0,)]


def test_what_is_to_be_forgotten_may_hold_what_postgresql_does_not_keep(server: Target) -> None:
    writer = server.open()
    writer.open([leads(0), messages(0), refused(0)])
    writer.write(
        {
            "leads": [lead_row(0, 0, "a\0b"), lead_row(0, 1, "kept")],
            "messenger-events": [{**message_row(0), "psid": "7\0"}, {**message_row(1), "psid": "8"}],
            "messenger-webhooks-dlq": [dead_letter(0, b"of 7\x00"), dead_letter(1, b"of 8")],
        },
        {leads(0): 2, messages(0): 2, refused(0): 2},
    )

    writer.forget([KeyForgotten(LEAD_TABLE, "a\0b"), PersonForgotten(PAGE, "7\0", *[NOON + timedelta(days=3650)] * 2)])

    assert server.ask("select lead_id from leads") == [("kept",)]
    assert server.ask("select lead_id from lead_events") == [("kept",)]
    assert server.ask("select psid from user_messages") == [("8",)]
    assert server.ask("select value from dead_letter_records") == [(b"of 8",)]


def test_a_role_that_may_not_write_is_told_so(server: Target) -> None:
    server.open().close()
    _execute(server.url, "create role poor_writer login")
    poor = Target(server.url.replace("leadstream@", "poor_writer@"))
    try:
        with pytest.raises(
            Unusable, match=r"PostgreSQL refuses: permission denied .*docs/warehouse.md lists what the role needs"
        ):
            poor.open()
    finally:
        _execute(server.url, "drop role poor_writer")


def test_a_server_that_has_gone_is_told_in_one_line(server: Target) -> None:
    writer = server.open()
    writer.open([leads(0)])
    _execute(
        server.url,
        "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database()"
        " and pid <> pg_backend_pid()",
    )

    with pytest.raises(Unavailable, match="PostgreSQL cannot answer now: terminating connection") as told:
        writer.write({"leads": [lead_row(0, 0)]}, {leads(0): 1})

    assert "\n" not in str(told.value)
    assert writer.open([leads(0)]) == {}
    writer.write({"leads": [lead_row(0, 0)]}, {leads(0): 1})
    assert server.ask("select count(*) from leads") == [(1,)]


def test_new_columns_come_in_the_order_of_the_record(server: Target) -> None:
    server.open().close()
    for table in ("leads", "lead_events"):
        _execute(
            server.url,
            f"drop view if exists lead_journeys cascade; alter table {table}"
            + ",".join(f" drop column {column}" for column in ("summary_at", "updated_at", "closed", "close_reason"))
            + ", drop column transcript_at",
        )

    server.open()

    columns = server.answer("select * from leads").columns
    assert columns[-5:] == ("summary_at", "updated_at", "closed", "close_reason", "transcript_at")
