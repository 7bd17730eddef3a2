"""The suite of every warehouse on Delta Lake and on a real PostgreSQL, and what `warehouse status` tells of both."""

from collections.abc import Iterator

import pytest

from sinks.warehouse.status import status_of
from tests.integration.warehouses import Target, pgbouncer
from tests.warehouse_conformance import WarehouseConformance
from tests.warehouse_rows import CLUSTER, lead_row, leads, outcomes


class TestWarehouses(WarehouseConformance):
    """`target` is each of the two in turn."""


class TestThroughPgBouncer(WarehouseConformance):
    """PostgreSQL behind PgBouncer in transaction mode."""

    @pytest.fixture(scope="class")
    @staticmethod
    def pooled(postgres: str) -> Iterator[str]:
        with pgbouncer(postgres) as url:
            yield url

    @pytest.fixture
    @staticmethod
    def target(pooled: str, postgres_database: str) -> Iterator[Target]:
        target = Target(f"{pooled.rsplit('/', 1)[0]}/{postgres_database.rsplit('/', 1)[1]}")
        yield target
        for writer in target.writers:
            writer.close()


def test_the_status_tells_rows_and_offsets(target: Target) -> None:
    writer = target.open()
    writer.open([leads(0), leads(1), outcomes(0)])
    writer.write({"leads": [lead_row(0, 0), lead_row(0, 1, revision=2)]}, {leads(0): 2, leads(1): 7})
    writer.fold()

    status = status_of(target.url, [leads(0), leads(1), outcomes(0)])

    assert status.cluster_id == CLUSTER
    assert status.offsets == {leads(0): 2, leads(1): 7}
    rows = {table.name: table.rows for table in status.tables}
    assert (rows["lead_events"], rows["leads"], rows["user_messages"]) == (2, 1, 0)
    assert all((table.written_at is not None) == bool(table.rows) for table in status.tables)
