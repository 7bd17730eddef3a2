"""SQL over the warehouse, read only: DuckDB over the Delta files, or the PostgreSQL server itself."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import duckdb
import psycopg
import pyarrow as pa
from aiokafka import TopicPartition
from deltalake import DeltaTable

from sinks.delta import application, cluster_of, local_path, table_uri
from sinks.tables import Table


class BadQuery(ValueError):
    """The query cannot be run; the message is fit to print."""


@dataclass(frozen=True, slots=True)
class Answer:
    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]


def ask(warehouse: str, tables: Mapping[str, Table], query: str) -> Answer:
    """The result of one SELECT over the `events` and `current` tables, which are as new as the last commit."""
    if warehouse.startswith(("postgresql://", "postgres://")):
        return _ask_server(warehouse, query)
    if local_path(warehouse) is None:
        raise BadQuery("the warehouse is on object storage: query it with an engine that reads Delta tables there")
    return _ask_files(warehouse, list(tables.values()), query)


def _ask_server(url: str, query: str) -> Answer:
    try:
        with psycopg.connect(url, options="-c default_transaction_read_only=on") as connection:
            cursor = connection.execute(query.encode(), prepare=True)
            if cursor.description is None:
                raise BadQuery("only a SELECT gives an answer")
            return Answer(tuple(one.name for one in cursor.description), tuple(cursor.fetchall()))
    except psycopg.Error as fault:
        raise BadQuery(str(fault).strip()) from None


def _ask_files(root: str, tables: Sequence[Table], query: str) -> Answer:
    with duckdb.connect(":memory:", config={"autoinstall_known_extensions": False}) as connection:
        connection.execute("set TimeZone = 'UTC'")
        files = [file for table in tables for file in _create_views(connection, root, table)]
        # Views go on reading these files, and nothing else on this machine can be read or written.
        connection.execute("set allowed_paths = $files", {"files": files})
        connection.execute("set enable_external_access = false")
        connection.execute("set lock_configuration = true")
        try:
            statements = connection.extract_statements(query)
            if [one.type for one in statements] != [duckdb.StatementType.SELECT]:
                raise BadQuery("only one SELECT can be asked")
            cursor = connection.execute(query)
            return Answer(tuple(one[0] for one in cursor.description), tuple(cursor.fetchall()))
        except duckdb.Error as fault:
            raise BadQuery(str(fault)) from None


def _create_views(connection: duckdb.DuckDBPyConnection, root: str, table: Table) -> list[str]:
    # In this order: events that are read later hold all that the current table was made from.
    current = _table_at(table_uri(root, table.current))
    events = _table_at(table_uri(root, table.events))
    files = [_create_view(connection, f"_folded_{table.current}", current, table.schema)]
    files.append(_create_view(connection, table.events, events, table.schema))
    connection.execute(f"create table _upto_{table.current} (topic varchar, part bigint, upto bigint)")
    if current is not None:
        _note_folded(connection, table, current)
    connection.execute(
        f"""
        create view {table.current} as
        select * from (
            from _folded_{table.current}
            union all by name
            select event.* from {table.events} event left join _upto_{table.current}
            on event._topic = topic and event._partition = part where event._offset >= coalesce(upto, 0)
        )
        qualify row_number() over (partition by {table.key} order by {table.newest_by} desc, _offset desc) = 1
        """
    )
    return [one for some in files for one in some]


def _table_at(uri: str) -> DeltaTable | None:
    return DeltaTable(uri) if DeltaTable.is_deltatable(uri) else None


def _create_view(
    connection: duckdb.DuckDBPyConnection, name: str, delta: DeltaTable | None, schema: pa.Schema
) -> list[str]:
    files: list[str] = delta.file_uris() if delta is not None else []
    if files:
        listed = ", ".join("'" + one.replace("'", "''") + "'" for one in files)
        connection.execute(f"create view {name} as from read_parquet([{listed}], union_by_name = true)")
    else:
        empty = schema.empty_table()
        connection.register(f"_empty_{name}", empty)
        connection.execute(f"create table {name} as from _empty_{name}")
    return files


def _note_folded(connection: duckdb.DuckDBPyConnection, table: Table, current: DeltaTable) -> None:
    cluster_id = cluster_of(current)
    places = connection.sql(f"select distinct _topic, _partition from {table.events}").fetchall()
    for topic, partition in places:
        upto = current.transaction_version(application(cluster_id, TopicPartition(topic, partition)))
        connection.execute(f"insert into _upto_{table.current} values (?, ?, ?)", [topic, partition, upto or 0])
