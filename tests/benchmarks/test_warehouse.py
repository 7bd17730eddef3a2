"""Rows a second of each warehouse beside the same writes without offsets, and how long a question takes meanwhile."""

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import psycopg
import pyarrow as pa
import pytest
from aiokafka import TopicPartition
from deltalake import write_deltalake
from psycopg import sql
from psycopg.types.json import Jsonb

from schemas.codec import lead_codec
from sinks.warehouse.delta.warehouse import DeltaWarehouse
from sinks.warehouse.postgres.warehouse import PostgresWarehouse
from sinks.warehouse.query import ask
from sinks.warehouse.sink import Warehouse
from sinks.warehouse.tables import LEAD_TABLE, Row, tables_by_topic
from tests.benchmarks.conftest import Note
from tests.builders import a_lead
from tests.integration.warehouses import new_database, postgres_server

pytestmark = pytest.mark.benchmark

PARTITION = TopicPartition("leads", 0)
LEADS = 1_000_000
MEASURED = 100_000
BATCH = 5_000
ROUNDS = 3
_QUESTION = "select outcome, count(*), max(updated_at) from lead_events group by outcome"

Batch = Sequence[Row]
Write = Callable[[Batch], None]


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with postgres_server() as url:
        yield url


def test_delta_beside_the_same_appends_without_offsets(tmp_path: Path, note: Note) -> None:
    uri = str(tmp_path / "plain")

    def plain(batch: Batch) -> None:
        write_deltalake(uri, pa.Table.from_pylist(list(batch), schema=LEAD_TABLE.schema), mode="append")

    warehouse = DeltaWarehouse(str(tmp_path / "ours"), tables_by_topic(str), cluster_id="bench")
    _compare("Delta Lake", warehouse, plain, note)


def test_postgres_beside_the_same_upserts_without_offsets(server: str, note: Note) -> None:
    plain = new_database(server, "bench_plain")
    with closing(psycopg.connect(plain, autocommit=True)) as connection:
        # The same tables, made by the sink itself.
        PostgresWarehouse(plain, tables_by_topic(str), cluster_id="bench").close()
        with closing(
            PostgresWarehouse(new_database(server, "bench_ours"), tables_by_topic(str), cluster_id="bench")
        ) as warehouse:
            _compare("PostgreSQL", warehouse, lambda batch: _copy_and_upsert(connection, batch), note)


@pytest.mark.parametrize("kind", ["Delta Lake", "PostgreSQL"])
def test_a_question_while_the_sink_writes_at_a_million_leads(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path, note: Note
) -> None:
    if kind == "Delta Lake":
        url = str(tmp_path / "warehouse")
        warehouse: Warehouse = DeltaWarehouse(url, tables_by_topic(str), cluster_id="bench")
    else:
        url = new_database(request.getfixturevalue("server"), "bench_million")
        warehouse = PostgresWarehouse(url, tables_by_topic(str), cluster_id="bench")
    warehouse.open([PARTITION])
    offset = 0
    for batch in _batches(LEADS, size=50_000, updates=False):
        offset += len(batch)
        warehouse.write({"leads": batch}, {PARTITION: offset})
    warehouse.fold()

    alone = _asked(url, times=5)
    busy = asyncio.run(_asked_while_writing(url, warehouse, offset))
    warehouse.close()

    note(
        f"{kind}: a group-by over {LEADS:,} leads, alone and while the sink writes {BATCH:,} rows at a time",
        f"median {median(alone) * 1000:.0f} ms alone, {median(busy) * 1000:.0f} ms beside the writer,"
        f" slowest {max(busy) * 1000:.0f} ms of {len(busy)}",
    )


def _compare(name: str, warehouse: Warehouse, plain: Write, note: Note) -> None:
    """Rounds of both in turn, so that what else the machine does falls on both."""
    warehouse.open([PARTITION])
    offset = 0
    ours: list[float] = []
    theirs: list[float] = []

    def kept(batch: Batch) -> None:
        nonlocal offset
        offset += len(batch)
        warehouse.write({"leads": batch}, {PARTITION: offset})

    for number in range(ROUNDS):
        batches = list(_batches(MEASURED, first=number * MEASURED))
        ours.append(_rows_a_second(kept, batches))
        theirs.append(_rows_a_second(plain, batches))
    note(
        f"{name}: rows a second in batches of {BATCH:,}, beside the same rows without offsets",
        f"{median(ours):,.0f}, without {median(theirs):,.0f}: {median(ours) / median(theirs):.2f} of it",
    )


def _rows_a_second(write: Write, batches: Sequence[Batch]) -> float:
    began = perf_counter()
    for batch in batches:
        write(batch)
    return sum(map(len, batches)) / (perf_counter() - began)


def _batches(rows: int, *, first: int = 0, size: int = BATCH, updates: bool = True) -> Iterator[Batch]:
    """Rows as the sink gets them; where there are updates, three in ten are the second revision of an earlier lead."""
    template = lead_codec().decode_plain(lead_codec().encode(a_lead()))
    numbered = iter(range(first, first + rows))
    while numbers := list(islice(numbered, size)):
        yield [_row(template, number, again=updates and number % 10 < 3) for number in numbers]


def _row(template: Mapping[str, Any], number: int, *, again: bool) -> Row:
    lead, revision = (number - 3, 2) if again else (number, 1)
    where = {"_topic": PARTITION.topic, "_partition": PARTITION.partition, "_offset": number}
    return {**template, "lead_id": f"lead-{lead:08}", "revision": revision, **where}


async def _asked_while_writing(url: str, warehouse: Warehouse, offset: int) -> list[float]:
    asking = asyncio.create_task(asyncio.to_thread(_asked, url, times=15))
    for batch in _batches(LEADS, first=offset):
        if asking.done():
            break
        offset += len(batch)
        await asyncio.to_thread(warehouse.write, {"leads": batch}, {PARTITION: offset})
    return await asking


def _asked(url: str, *, times: int) -> list[float]:
    took = []
    for _ in range(times):
        began = perf_counter()
        ask(url, _QUESTION)
        took.append(perf_counter() - began)
    return took


def _copy_and_upsert(connection: psycopg.Connection[Any], batch: Batch) -> None:
    """What anyone would write who needs no offsets: COPY into a temporary table, then insert and upsert."""
    names = sql.SQL(", ").join(map(sql.Identifier, LEAD_TABLE.schema.names))
    updated = sql.SQL(", ").join(
        sql.SQL("{0} = excluded.{0}").format(sql.Identifier(name)) for name in LEAD_TABLE.schema.names
    )
    with connection.transaction(), connection.cursor() as cursor:
        cursor.execute("create temporary table if not exists stage (like lead_events) on commit delete rows")
        with cursor.copy(sql.SQL("copy stage ({}) from stdin").format(names)) as copy:
            for row in batch:
                copy.write_row([_plain(row.get(name)) for name in LEAD_TABLE.schema.names])
        cursor.execute(
            sql.SQL("insert into lead_events ({0}) select {0} from stage on conflict do nothing").format(names)
        )
        cursor.execute(
            sql.SQL(
                "insert into leads as held ({0}) select distinct on (lead_id) {0} from stage"
                " order by lead_id, revision desc on conflict (lead_id) do update set {1}"
                " where excluded.revision > held.revision"
            ).format(names, updated)
        )


def _plain(value: Any) -> Any:
    return Jsonb(value) if isinstance(value, list | dict) else value
