"""A warehouse filled anew from a real Kafka, compared with the old one, and put in its place."""

import asyncio
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
from click.testing import CliRunner, Result
from deltalake import DeltaTable

from cli.main import main
from runtime.settings import Settings
from schemas.codec import event_codec
from sinks.warehouse.query import ask
from tests.builders import an_erasure
from tests.integration.sink_runs import Cluster
from tests.integration.topics import put
from tests.integration.warehouses import pgbouncer

pytestmark = [pytest.mark.anyio, pytest.mark.integration]


@pytest.fixture(params=["delta", "postgres"])
def cluster(request: pytest.FixtureRequest, kafka_topics: Settings, tmp_path: Path) -> Cluster:
    if request.param == "delta":
        return Cluster(kafka_topics, str(tmp_path / "warehouse"))
    return Cluster(kafka_topics, request.getfixturevalue("postgres_database"))


@pytest.fixture
def database(postgres_database: str, kafka_topics: Settings) -> Cluster:
    return Cluster(kafka_topics, postgres_database)


async def _filled(cluster: Cluster) -> None:
    """Ten leads in three revisions and two messages, written by a sink that has stopped."""
    await cluster.put_leads(range(1, 4))
    await cluster.put_events(2)
    async with cluster.sink():
        await cluster.until("select count(*), min(revision) from leads", [(10, 3)])
        await cluster.until("select count(*) from user_messages", [(2,)])


async def test_a_rebuilt_warehouse_equals_the_old_one_and_takes_its_place(cluster: Cluster) -> None:
    await _filled(cluster)
    await cluster.put_leads(range(4, 5))

    result = await _rebuild(cluster, "--swap")

    assert result.exit_code == 0, result.output
    assert "lead_events: 30 rows, 30 rebuilt" in result.output
    assert "leads: 10 rows, 10 rebuilt, equal" in result.output
    assert _rows_aside(cluster) == 30
    assert cluster.ask("select count(*), min(revision) from leads") == [(10, 3)]
    async with cluster.sink():
        await cluster.until("select count(*), min(revision) from leads", [(10, 4)])
    assert cluster.ask("select count(*), count(distinct (_topic, _partition, _offset)) from lead_events") == [(40, 40)]


async def test_a_rebuild_brings_nobody_back_who_was_erased(cluster: Cluster) -> None:
    await _filled(cluster)
    await put(cluster.settings, cluster.leads, (b"l1", None))
    await put(cluster.settings, cluster.events, (b"page:psid", event_codec().encode(an_erasure())))
    async with cluster.sink():
        await cluster.until("select count(*) from leads", [(9,)])
        await cluster.until("select count(*) from user_messages", [(0,)])

    result = await _rebuild(cluster, "--swap")

    assert result.exit_code == 0, result.output
    assert "leads: 9 rows, 9 rebuilt, equal" in result.output
    assert "lead_events: 27 rows, 27 rebuilt" in result.output
    assert "user_messages: 0 rows, 0 rebuilt" in result.output
    assert cluster.ask("select count(*) from leads where lead_id = 'l1'") == [(0,)]


async def test_without_a_swap_both_stay(cluster: Cluster) -> None:
    await _filled(cluster)

    first = await _rebuild(cluster)
    again = await _rebuild(cluster)

    assert (first.exit_code, "Equal. The rebuilt warehouse is" in first.output) == (0, True)
    assert (again.exit_code, "is there already" in again.output) == (1, True)


async def test_a_warehouse_that_differs_from_kafka_stays_where_it_is(cluster: Cluster) -> None:
    await _filled(cluster)
    _lose_a_lead(cluster)

    result = await _rebuild(cluster, "--swap")

    assert result.exit_code == 1
    assert "leads: not equal" in result.output
    assert cluster.ask("select count(*) from leads") == [(9,)]


async def test_nothing_is_rebuilt_under_a_running_sink(cluster: Cluster) -> None:
    await cluster.put_leads(range(1, 2))

    async with cluster.sink("leadstream-warehouse"):
        await cluster.until("select count(*) from leads", [(10,)])
        result = await _rebuild(cluster)

    assert (result.exit_code, "a warehouse sink is running" in result.output) == (1, True)


async def test_a_rebuild_works_through_pgbouncer(database: Cluster) -> None:
    with pgbouncer(database.url) as url:
        cluster = replace(database, url=url)
        await _filled(cluster)

        result = await _rebuild(cluster, "--swap")

    assert result.exit_code == 0, result.output
    assert database.ask("select count(*) from leads") == [(10,)]
    assert _rows_aside(database) > 0


async def test_readers_of_postgresql_go_on_during_a_swap(database: Cluster) -> None:
    await _filled(database)
    over = threading.Event()
    seen: list[Any] = []

    def read() -> None:
        while not over.is_set():
            seen.append(ask(database.url, "select (select count(*) from leads), count(*) from lead_answers").rows)

    reading = asyncio.create_task(asyncio.to_thread(read))
    result = await _rebuild(database, "--swap")
    over.set()
    await reading

    assert result.exit_code == 0, result.output
    assert len(seen) > 1
    assert len(set(seen)) == 1


async def test_who_may_read_the_old_tables_may_read_the_new_ones(database: Cluster) -> None:
    await _filled(database)
    with psycopg.connect(database.url, autocommit=True) as connection:
        connection.execute("create role analyst nologin")
        connection.execute("grant select on leads, lead_funnel to analyst")
    try:
        result = await _rebuild(database, "--swap")

        assert result.exit_code == 0, result.output
        with psycopg.connect(database.url) as connection:
            connection.execute("set role analyst")
            assert connection.execute("select count(*) from leads").fetchone() == (10,)
            assert connection.execute("select count(*) from lead_funnel").fetchone()
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute("select count(*) from lead_events")
    finally:
        with psycopg.connect(database.url, autocommit=True) as connection:
            connection.execute("drop owned by analyst")
            connection.execute("drop role analyst")


@pytest.mark.parametrize(
    ("made", "name"),
    [("create view mine as select count(*) from lead_funnel", "mine"), ("create index mine on leads (psid)", "mine")],
)
async def test_what_somebody_made_on_the_old_tables_is_not_left_behind(database: Cluster, made: str, name: str) -> None:
    await _filled(database)
    with psycopg.connect(database.url, autocommit=True) as connection:
        connection.execute(made.encode())

    result = await _rebuild(database, "--swap")

    assert result.exit_code == 1
    assert f"Error: {name}: built on the old tables" in result.output
    assert database.ask("select count(*) from leads") == [(10,)]


async def test_a_long_query_delays_no_reader_for_ever(database: Cluster) -> None:
    await _filled(database)
    with psycopg.connect(database.url) as connection:
        connection.execute("select count(*) from leads")

        result = await _rebuild(database, "--swap")

    assert result.exit_code == 1
    assert "held the old tables for longer than 5s" in result.output
    assert database.ask("select count(*) from leads") == [(10,)]


def _rows_aside(cluster: Cluster) -> int:
    if cluster.url.startswith("postgresql://"):
        [(rows,)] = cluster.ask("select count(*) from public_before.lead_events")
    else:
        [(rows,)] = ask(f"{cluster.url}.before", "select count(*) from lead_events").rows
    return int(rows)


def _lose_a_lead(cluster: Cluster) -> None:
    if cluster.url.startswith("postgresql://"):
        with psycopg.connect(cluster.url) as connection:
            connection.execute("delete from leads where lead_id = 'l1'")
    else:
        DeltaTable(f"{cluster.url}/leads").delete("lead_id = 'l1'")


async def _rebuild(cluster: Cluster, *options: str) -> Result:
    told = {
        "LEADSTREAM_BROKER": cluster.settings.broker,
        "LEADSTREAM_TOPIC_PREFIX": cluster.settings.topic_prefix,
        "LEADSTREAM_PARTITIONS": str(cluster.settings.partitions),
        "LEADSTREAM_WAREHOUSE": cluster.url,
    }
    return await asyncio.to_thread(CliRunner().invoke, main, ["warehouse", "rebuild", *options], env=told)
