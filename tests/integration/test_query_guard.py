"""A question to the warehouse changes nothing in it and reaches nothing else on the machine, whatever it says."""

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from sinks.warehouse.query import BadQuery
from tests.integration.warehouses import Target, new_database
from tests.warehouse_rows import lead_row, leads

# {secret} is a file of this machine, {out} one that must not come to be.
_EVERYWHERE = [
    "insert into leads (lead_id) values ('x')",
    "delete from leads",
    "update leads set revision = 9",
    "truncate leads",
    "drop view lead_funnel",
    "alter table leads add column mine text",
    "create table mine as select 1",
    "create temporary table mine as select 1",
    "select 1; select 2",
    "select 1; drop view lead_funnel",
    "with gone as (delete from lead_events returning *) select * from gone",
    "copy leads to '{out}'",
    "copy (select 1) to '{out}'",
    "copy lead_events from '{secret}'",
    "begin",
    "commit; select 1",
    "prepare mine as select 1",
    "execute mine",
    "call mine()",
    "explain analyze delete from leads",
    "checkpoint",
    "vacuum",
    "selec 1",
    "select * from no_such_table",
    "-- nothing",
    "",
]
_DUCKDB = [
    "attach '{out}'",
    "install httpfs",
    "load httpfs",
    "update extensions",
    "pragma database_list",
    "set enable_external_access = true",
    "reset lock_configuration",
    "set variable mine = 1",
    "export database '{out}'",
    "create secret (type s3)",
    "create macro mine() as 1",
    "with gone as (delete from _upto_leads returning *) select * from gone",
    "select * from read_csv('{secret}')",
    "select * from read_text('{secret}')",
    "select * from read_blob('{secret}')",
    "select * from read_json('/proc/self/environ')",
    "select * from '{secret}'",
    "select * from glob('{secret}')",
    "select * from sniff_csv('{secret}')",
    "select * from parquet_metadata('{secret}')",
    "select * from query_table('{secret}')",
    "select * from query('copy (select 1) to ''{out}''')",
    "select * from read_parquet('s3://elsewhere/leads.parquet')",
    "select * from delta_scan('{secret}')",
    "select * from duckdb_secrets()",
]
_POSTGRES = [
    "copy (select 1) to program 'touch {out}'",
    "copy leads to stdout",
    "do $$ begin delete from leads; end $$",
    "do $$ begin execute 'copy (select 1) to ''{out}'''; end $$",
    "set transaction read write",
    "set role none",
    "reset role",
    "select set_config('transaction_read_only', 'off', false)",
    "select 1 into mine",
    "select * from leads for update",
    "lock table leads",
    "listen mine",
    "load 'auto_explain'",
    "alter system set work_mem = '1MB'",
    "refresh materialized view mine",
    "declare mine cursor for select 1",
    "select query_to_xml('delete from leads', true, false, '')",
    "select pg_read_file('{secret}')",
    "select pg_stat_file('{secret}')",
    "select * from pg_ls_dir('/')",
    "select lo_import('{secret}')",
    "select pg_reload_conf()",
    "select pg_switch_wal()",
    "select nextval('mine')",
]


@pytest.fixture(scope="module")
def delta(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    yield from _unchanged(Target(str(tmp_path_factory.mktemp("delta") / "warehouse")))


@pytest.fixture(scope="module")
def server(postgres: str) -> Iterator[Target]:
    yield from _unchanged(Target(new_database(postgres, "guarded")))


@pytest.fixture(params=["delta", "server"])
def either(request: pytest.FixtureRequest) -> Target:
    target: Target = request.getfixturevalue(request.param)
    return target


@pytest.fixture
def secret(tmp_path: Path) -> Iterator[Path]:
    """A file that anybody on this machine may read, in a folder that anybody may write to."""
    tmp_path.chmod(0o777)
    secret = tmp_path / "secret.csv"
    secret.write_text("a,b\nplanted,2\n")
    secret.chmod(0o644)
    yield secret
    assert not (tmp_path / "out").exists()


def _unchanged(target: Target) -> Iterator[Target]:
    """With one lead, which all the questions together leave as it is."""
    writer = target.open()
    writer.open([leads(0)])
    writer.write({"leads": [lead_row(0, 0)]}, {leads(0): 1})
    writer.close()
    yield target
    assert target.ask("select lead_id, revision, leads from leads cross join lead_funnel") == [("l1", 1, 1)]


def _refused(target: Target, query: str, secret: Path) -> None:
    with pytest.raises(BadQuery) as caught:
        target.ask(query.replace("{secret}", str(secret)).replace("{out}", str(secret.with_name("out"))))

    assert "planted" not in str(caught.value)


@pytest.mark.parametrize("query", _EVERYWHERE)
def test_only_one_select_is_answered(either: Target, query: str, secret: Path) -> None:
    _refused(either, query, secret)


@pytest.mark.parametrize("query", _DUCKDB)
def test_duckdb_reaches_no_other_file_and_no_setting(delta: Target, query: str, secret: Path) -> None:
    _refused(delta, query, secret)


@pytest.mark.parametrize("query", _POSTGRES)
def test_postgresql_is_read_even_by_a_superuser(server: Target, query: str, secret: Path) -> None:
    _refused(server, query, secret)


def test_what_a_function_wrote_in_spite_of_all_is_rolled_back(server: Target) -> None:
    server.ask("select lo_create(0)")

    with psycopg.connect(server.url) as connection:
        assert connection.execute("select count(*) from pg_largeobject_metadata").fetchone() == (0,)


@pytest.mark.parametrize(
    "query", ["table leads", "values (1)", "with one as (select 1) select * from one", "select 1;"]
)
def test_every_way_to_write_a_select_is_answered(either: Target, query: str) -> None:
    assert len(either.ask(query)) == 1
