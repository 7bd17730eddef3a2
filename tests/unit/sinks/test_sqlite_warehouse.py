"""The suite of every warehouse on its reference: what a test without a server stands on keeps the same promises."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from sinks.warehouse.query import Answer
from sinks.warehouse.tables import tables_by_topic
from tests.unit.sinks.sqlite_warehouse import SqliteWarehouse
from tests.warehouse_conformance import WarehouseConformance
from tests.warehouse_rows import CLUSTER


@dataclass(frozen=True, slots=True)
class _Target:
    path: str
    writers: list[SqliteWarehouse] = field(default_factory=list)

    def open(self, cluster_id: str = CLUSTER) -> SqliteWarehouse:
        self.writers.append(SqliteWarehouse(self.path, tables_by_topic(str), cluster_id=cluster_id))
        return self.writers[-1]

    def answer(self, query: str) -> Answer:
        return self.open().answer(query)

    def ask(self, query: str) -> list[tuple[Any, ...]]:
        return list(self.answer(query).rows)


@pytest.fixture
def target(tmp_path: Path) -> Iterator[_Target]:
    target = _Target(str(tmp_path / "warehouse.sqlite"))
    yield target
    for writer in target.writers:
        writer.close()


@pytest.mark.slow
class TestSqliteWarehouse(WarehouseConformance):
    """`target` is the reference."""
