"""Rebuild a warehouse from Kafka: fill a second one beside it, compare the two, and swap them."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, LiteralString

import psycopg
from aiokafka import TopicPartition
from psycopg import Connection, sql

from runtime import kafka
from runtime.clock import now
from runtime.cluster import Cluster
from runtime.losses import Losses, Span
from runtime.metrics import Metrics
from runtime.settings import Settings
from runtime.topic_reading import read_until
from schemas.codec import Ids, NotDecodable
from sinks.consume import Received, Source, Unusable
from sinks.warehouse.delta.files import local_path
from sinks.warehouse.delta.warehouse import DeltaWarehouse
from sinks.warehouse.postgres.connection import connected, is_server
from sinks.warehouse.postgres.faults import faults_in_one_line
from sinks.warehouse.postgres.warehouse import PostgresWarehouse, relations
from sinks.warehouse.query import ask
from sinks.warehouse.removals import Kept
from sinks.warehouse.rows import warehouse_sources
from sinks.warehouse.sink import Warehouse, WarehouseSink
from sinks.warehouse.status import Status
from sinks.warehouse.tables import PROVENANCE, TABLES, Table, tables_by_topic

_REBUILT, _BEFORE = "rebuilt", "before"
# A swap waits this long for readers of the old tables; later readers wait behind it.
_LOCK_TIMEOUT = "5s"

Digest = tuple[int, Any]


class DeltaReplacement:
    """Directories NAME.rebuilt and NAME.before beside NAME.

    `new` is the place of the new warehouse, `aside` that of the old one after the swap, as an operator knows them.
    """

    def __init__(self, old: Path) -> None:
        self._old, self._new, self._aside = old, _beside(old, _REBUILT), _beside(old, _BEFORE)
        self.new, self.aside = str(self._new), str(self._aside)

    def require_room(self) -> None:
        """Raises `Unusable` while an earlier attempt is still there."""
        for place in (self._new, self._aside):
            if place.exists():
                raise Unusable(f"{place} is there already: look at it, then remove it")

    def open(self, tables: Mapping[str, Table], *, cluster_id: str) -> Warehouse:
        """The new warehouse, empty."""
        return DeltaWarehouse(str(self._new), tables, cluster_id=cluster_id)

    def digests(self, name: str, columns: Sequence[str]) -> tuple[Digest, Digest]:
        """The number of rows of a table and a digest of these columns, in the old warehouse and in the new one.

        Equal rows give the same digest in any order.
        """
        compared = ", ".join(f'"{column}"' for column in columns)
        query = f"select count(*), bit_xor(hash(one)) from (select {compared} from {name}) one"
        (old,), (new,) = (ask(str(place), query).rows for place in (self._old, self._new))
        return (old[0], old[1]), (new[0], new[1])

    def swap(self) -> None:
        """Put the new warehouse in the place of the old one. Raises `Unusable` and changes nothing if it cannot."""
        self._old.rename(self._aside)
        self._new.rename(self._old)


def _beside(old: Path, ending: str) -> Path:
    return old.with_name(f"{old.name}.{ending}")


class PostgresReplacement:
    """Schemas NAME_rebuilt and NAME_before beside NAME, the first schema of the search path, which has our tables.

    Its methods promise the same. Only our tables and views change places, with the privileges on them; other objects in
    the schema stay.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        with faults_in_one_line(), connected(self._url) as connection:
            [(schema,)] = connection.execute("select current_schema()").fetchall()
        if schema is None:
            raise Unusable("PostgreSQL has no schema that search_path names: create it")
        self._old, self.new, self.aside = schema, f"{schema}_{_REBUILT}", f"{schema}_{_BEFORE}"

    def require_room(self) -> None:
        with faults_in_one_line(), connected(self._url) as connection:
            for name in (self.new, self.aside):
                if connection.execute("select from pg_namespace where nspname = %s", (name,)).fetchone() is not None:
                    raise Unusable(f"schema {name} is there already: look at it, then drop it")

    def open(self, tables: Mapping[str, Table], *, cluster_id: str) -> Warehouse:
        with faults_in_one_line(), connected(self._url) as connection:
            connection.execute(sql.SQL("create schema {}").format(sql.Identifier(self.new)))
        return PostgresWarehouse(self._url, tables, cluster_id=cluster_id, schema=self.new)

    def digests(self, name: str, columns: Sequence[str]) -> tuple[Digest, Digest]:
        compared = sql.SQL(", ").join(map(sql.Identifier, columns))
        query = sql.SQL("select count(*), bit_xor(hash_record_extended(one, 0)) from (select {} from {}) one")
        with faults_in_one_line(), connected(self._url) as connection:
            [old], [new] = (
                connection.execute(query.format(compared, sql.Identifier(schema, name))).fetchall()
                for schema in (self._old, self.new)
            )
        return (old[0], old[1]), (new[0], new[1])

    def swap(self) -> None:
        names = relations()
        with faults_in_one_line(), connected(self._url) as connection:
            try:
                self._require_nothing_built_on(connection, names)
                connection.execute("select set_config('lock_timeout', %s, true)", (_LOCK_TIMEOUT,))
                self._copy_privileges(connection, names)
                connection.execute(sql.SQL("create schema {}").format(sql.Identifier(self.aside)))
                for start, end in ((self._old, self.aside), (self.new, self._old)):
                    self._move(connection, names, start, end)
                connection.execute(sql.SQL("drop schema {}").format(sql.Identifier(self.new)))
            except psycopg.errors.LockNotAvailable:
                raise Unusable(
                    f"a query held the old tables for longer than {_LOCK_TIMEOUT}: swap when long queries have ended"
                ) from None

    def _move(self, connection: Connection[Any], names: Sequence[str], start: str, end: str) -> None:
        kinds = connection.execute(
            "select relname, relkind from pg_class"
            " where relnamespace = quote_ident(%s)::regnamespace and relname = any(%s)",
            (start, list(names)),
        ).fetchall()
        for name, kind in sorted(kinds):
            alter: LiteralString = "alter view {} set schema {}" if kind == "v" else "alter table {} set schema {}"
            connection.execute(sql.SQL(alter).format(sql.Identifier(start, name), sql.Identifier(end)))

    def _copy_privileges(self, connection: Connection[Any], names: Sequence[str]) -> None:
        for name, role, privilege in connection.execute(
            "select relname, case when grantee = 0 then 'public' else quote_ident(pg_get_userbyid(grantee)) end,"
            " privilege_type from pg_class, aclexplode(relacl)"
            " where relnamespace = quote_ident(%s)::regnamespace and relname = any(%s) and grantee <> relowner",
            (self._old, list(names)),
        ).fetchall():
            connection.execute(
                sql.SQL("grant {} on {} to {}").format(
                    sql.SQL(privilege), sql.Identifier(self.new, name), sql.SQL(role)
                )
            )

    def _require_nothing_built_on(self, connection: Connection[Any], names: Sequence[str]) -> None:
        """Raises `Unusable` for views and indexes of others on the old tables, which would keep showing those."""
        others = connection.execute(
            """
            with ours as (
                select oid from pg_class where relnamespace = quote_ident(%s)::regnamespace and relname = any(%s)
            )
            select distinct relation::regclass::text from (
                select ev_class as relation from pg_rewrite join pg_depend
                on pg_depend.classid = 'pg_rewrite'::regclass and pg_depend.objid = pg_rewrite.oid
                where refclassid = 'pg_class'::regclass and refobjid in (select oid from ours)
                union all
                select indexrelid from pg_index where indrelid in (select oid from ours) and not indisprimary
            ) built where relation not in (select oid from ours) order by 1
            """,
            (self._old, list(names)),
        ).fetchall()
        if others:
            listed = ", ".join(name for (name,) in others)
            raise Unusable(f"{listed}: built on the old tables; drop them, swap, and make them again")


Replacement = DeltaReplacement | PostgresReplacement


def replacement_of(warehouse: str) -> Replacement:
    """Raises `Unusable` where no warehouse can be rebuilt."""
    if is_server(warehouse):
        return PostgresReplacement(warehouse)
    path = local_path(warehouse)
    if path is None:
        raise Unusable("a warehouse on object storage is not rebuilt: let a sink fill a new place")
    return DeltaReplacement(path)


@dataclass(frozen=True, slots=True)
class Comparison:
    """A table in both warehouses; `same` is None where Kafka may have lost rows by its retention."""

    table: str
    rows: int
    rebuilt: int
    same: bool | None


async def fill(
    settings: Settings, broker: Cluster, ids: Ids, place: Replacement, old: Status, progress: Callable[[int], None]
) -> None:
    """Write everything from Kafka's beginning up to the offsets of `old` into the new warehouse. Raises `Unusable`."""
    tables = tables_by_topic(settings.topic)
    warehouse = await asyncio.to_thread(place.open, tables, cluster_id=old.cluster_id or "")
    metrics = Metrics()
    losses = Losses("leadstream warehouse rebuild", metrics)
    sink = WarehouseSink(warehouse, tables, now=now, metrics=metrics, losses=losses)
    reader = kafka.consumer(broker, group=None, client_id="leadstream-rebuild")
    await reader.start()
    try:
        first = await reader.beginning_offsets(list(old.offsets))
        left = {place: end for place, end in old.offsets.items() if end > first[place]}
        reader.assign(list(left))
        starts = await sink.open({place: Span(first[place], end, None) for place, end in left.items()})
        for partition, offset in starts.items():
            reader.seek(partition, offset)
        sources = warehouse_sources(settings.topic, ids)
        async for records in read_until(reader, left):
            rows = [
                Received(
                    TopicPartition(record.topic, record.partition), record.offset, _row(sources[record.topic], record)
                )
                for record in records
            ]
            await sink.take(rows, {row.partition: row.offset + 1 for row in rows})
            await sink.tick()
            progress(len(records))
        await sink.take([], left)
        await sink.close()
    finally:
        await reader.stop()
        warehouse.close()


def _row(source: Source[Kept], record: Any) -> Kept:
    """The row of a record; a refused record has none."""
    try:
        return source.read(record)
    except NotDecodable:
        return None


def compare(place: Replacement) -> list[Comparison]:
    """Compare each table in both warehouses, without the places of rows in Kafka."""
    comparisons = []
    for table in TABLES:
        columns = [column for column in table.schema.names if column not in PROVENANCE]
        for name in table.names:
            old, new = place.digests(name, columns)
            comparisons.append(Comparison(name, old[0], new[0], None if name == table.events else old == new))
    return comparisons
