"""A release with one column more, and the one before it, on the same warehouse at the same time."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pyarrow as pa

from sinks.warehouse.delta.warehouse import DeltaWarehouse
from sinks.warehouse.postgres.warehouse import PostgresWarehouse
from sinks.warehouse.query import BadQuery, ask
from sinks.warehouse.sink import Warehouse
from sinks.warehouse.tables import LEAD_TABLE, Table
from tests.integration.warehouses import TABLES, Target
from tests.warehouse_rows import CLUSTER, lead_row, leads

_WIDER = replace(LEAD_TABLE, fields=lambda: [*LEAD_TABLE.fields(), pa.field("score", pa.int64())])
_NEWER: Mapping[str, Table] = {**TABLES, "leads": _WIDER}


def _open(url: str, tables: Mapping[str, Table]) -> Warehouse:
    kind: Callable[..., Warehouse] = PostgresWarehouse if url.startswith("postgresql://") else DeltaWarehouse
    warehouse = kind(url, tables, cluster_id=CLUSTER)
    warehouse.open([leads(0)])
    return warehouse


def _write(warehouse: Warehouse, offset: int, **more: Any) -> None:
    warehouse.write({"leads": [{**lead_row(0, offset, f"l{offset}"), **more}]}, {leads(0): offset + 1})
    warehouse.fold()


def test_a_new_column_is_there_for_readers_and_the_release_before_goes_on_writing(target: Target) -> None:
    before = _open(target.url, TABLES)
    _write(before, 0)
    before.close()

    newer = _open(target.url, _NEWER)
    _write(newer, 1, score=7)
    newer.close()
    before = _open(target.url, TABLES)
    _write(before, 2)
    before.close()
    newer = _open(target.url, _NEWER)
    _write(newer, 3, score=9)
    newer.close()

    for table in ("lead_events", "leads"):
        found = target.ask(f"select lead_id, score from {table} order by lead_id")
        assert found == [("l0", None), ("l1", 7), ("l2", None), ("l3", 9)]


def test_workers_of_both_releases_write_side_by_side(target: Target) -> None:
    before, newer = _open(target.url, TABLES), _open(target.url, _NEWER)
    before.open([leads(1)])

    _write(newer, 0, score=7)
    before.write({"leads": [lead_row(1, 0, "other")]}, {leads(1): 1})
    before.fold()
    _write(newer, 1, score=9)
    before.close()
    newer.close()

    assert target.ask("select lead_id, score from leads order by 1") == [("l0", 7), ("l1", 9), ("other", None)]


def test_readers_go_on_while_a_column_comes(target: Target) -> None:
    writer = _open(target.url, TABLES)
    _write(writer, 0)
    writer.close()
    over = threading.Event()
    failed: list[BadQuery] = []

    def read() -> None:
        while not over.is_set():
            try:
                ask(target.url, "select lead_id, outcome from leads")
            except BadQuery as fault:
                failed.append(fault)

    reading = threading.Thread(target=read)
    reading.start()
    try:
        writer = _open(target.url, _NEWER)
        _write(writer, 1, score=7)
        writer.close()
    finally:
        over.set()
        reading.join()

    assert failed == []
