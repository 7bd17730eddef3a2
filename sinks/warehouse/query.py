"""SQL over the warehouse, read only: DuckDB over the Delta files, or the PostgreSQL server itself."""

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
import psycopg
import pyarrow as pa
from aiokafka import TopicPartition
from deltalake import DeltaTable

from runtime.mendable import Mendable
from runtime.private_directory import make_private
from sinks.consume import Unusable
from sinks.warehouse.delta.files import application, cluster_of, create_view, local_path, stored_tables
from sinks.warehouse.postgres.connection import connected, is_server
from sinks.warehouse.postgres.faults import summary
from sinks.warehouse.tables import NAMES, TABLES, Table
from sinks.warehouse.views import DUCKDB, view_queries

_AT_ONCE = 10_000
# Kafka, streams and the sinks are mostly on the same machine.
_MEMORY = "25%"
# In this order: events that are read later hold all that the current tables were made from.
_CURRENT_FIRST = tuple(reversed(NAMES))


class BadQuery(Mendable):
    """The query cannot be run; the message is safe to print."""


@dataclass(frozen=True, slots=True)
class Answer:
    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]


class Asked(NamedTuple):
    """An answer that is still being read."""

    columns: tuple[str, ...]
    batches: Iterator[list[tuple[Any, ...]]]


def ask(warehouse: str, query: str, *, spill: Path | None = None) -> Answer:
    """The result of one SELECT over the tables and views, which are as new as the last commit. Raises `BadQuery`.

    A query of an embedded warehouse takes a quarter of the memory of this machine at most. The rest of what it needs
    goes into the directory `spill`, if the one above it exists; else a query that needs more is refused.
    """
    with asking(warehouse, query, spill=spill) as asked:
        return Answer(asked.columns, tuple(row for rows in asked.batches for row in rows))


@contextmanager
def asking(warehouse: str, query: str, *, spill: Path | None = None) -> Iterator[Asked]:
    """As `ask`, with the rows in batches: for results that are too many to hold."""
    if is_server(warehouse):
        source = _server(warehouse)
    elif local_path(warehouse) is None:
        raise BadQuery("the warehouse is on object storage: query it with an engine that reads Delta tables there")
    else:
        source = _files(warehouse, spill)
    try:
        with source as run:
            cursor = run(query)
            columns = tuple(column[0] for column in cursor.description)
            yield Asked(columns, iter(lambda: cursor.fetchmany(_AT_ONCE), []))
    except (psycopg.errors.SyntaxError, psycopg.errors.InvalidCursorDefinition) as fault:
        raise BadQuery(f"the query must be one SELECT: {fault.diag.message_primary}") from None
    except psycopg.Error as fault:
        raise BadQuery(summary(fault)) from None
    except duckdb.OutOfMemoryException:
        problem = "the query needs more than a quarter of this machine's memory, and has no room for the rest"
        raise BadQuery(f"{problem}: let LEADSTREAM_STATE_DIR name a directory that exists") from None
    except duckdb.Error as fault:
        raise BadQuery(str(fault).strip()) from None
    except Unusable as fault:
        raise BadQuery(str(fault)) from None


def types_of(name: str) -> dict[str, pa.DataType]:
    """The columns of a table or a view with their types, which are the same in every warehouse."""
    with _connected({}) as connection:
        schema = connection.table(name).to_arrow_table().schema
    return dict(zip(schema.names, schema.types, strict=True))


@contextmanager
def _server(url: str) -> Iterator[Callable[[str], Any]]:
    # A cursor can be declared for a SELECT only: COPY and DO would act on the server before they are refused.
    with closing(connected(url)) as connection, connection.cursor("answer") as cursor:
        connection.read_only = True
        connection.execute("set local cursor_tuple_fraction = 1")
        connection.execute("set local time zone 'UTC'")
        if connection.info.parameter_status("is_superuser") == "on":
            # No read-only transaction keeps a superuser's functions from the server's files.
            connection.execute("set local role pg_read_all_data")

        def run(query: str) -> Any:
            return cursor.execute(query.encode())

        yield run


@contextmanager
def _files(root: str, spill: Path | None) -> Iterator[Callable[[str], Any]]:
    with _connected(stored_tables(root, _CURRENT_FIRST), spill) as connection:

        def run(query: str) -> Any:
            if _kinds(connection, query) != [duckdb.StatementType.SELECT]:
                raise BadQuery("the query must be one SELECT")
            # DuckDB handles Ctrl-C in the main thread only, and not always there.
            with ThreadPoolExecutor(1) as thread:
                asked = thread.submit(connection.execute, query)
                try:
                    return asked.result()
                except KeyboardInterrupt:
                    connection.interrupt()
                    raise

        yield run


@contextmanager
def _connected(stored: Mapping[str, DeltaTable], spill: Path | None = None) -> Iterator[duckdb.DuckDBPyConnection]:
    extensions = {"autoinstall_known_extensions": False, "autoload_known_extensions": False}
    bounds = {"memory_limit": _MEMORY, "temp_directory": _made(spill)}
    with duckdb.connect(":memory:", config={**extensions, **bounds, "python_enable_replacements": False}) as connection:
        connection.execute("set TimeZone = 'UTC'")
        files = [file for table in TABLES for file in _create_tables(connection, stored, table)]
        for name, select in view_queries(DUCKDB).items():
            connection.execute(f"create view {name} as {select}")
        # Views go on reading these files, and nothing else on this machine can be read or written, but for what queries
        # spill: rows of the same warehouse.
        connection.execute("set allowed_paths = $files", {"files": files})
        connection.execute("set enable_external_access = false")
        connection.execute("set lock_configuration = true")
        connection.execute("begin transaction read only")
        yield connection


def _made(spill: Path | None) -> str:
    """The directory, for this user alone; none where nothing is above it yet, or it may not be made."""
    if spill is None or not spill.parent.is_dir():
        return ""
    try:
        make_private(spill)
    except OSError:
        return ""
    return str(spill)


def _kinds(connection: duckdb.DuckDBPyConnection, query: str) -> list[Any]:
    statements = connection.extract_statements(query)
    try:
        return [statement.type for statement in statements]
    except ValueError:
        # DuckDB has kinds that its Python library does not know.
        return []


def _create_tables(connection: duckdb.DuckDBPyConnection, stored: Mapping[str, DeltaTable], table: Table) -> list[str]:
    if table.current is None:
        return create_view(connection, table.events, stored.get(table.events), table.schema)
    name, folded, upto = table.current.name, f"_folded_{table.current.name}", f"_upto_{table.current.name}"
    current = stored.get(name)
    files = create_view(connection, folded, current, table.schema)
    files += create_view(connection, table.events, stored.get(table.events), table.schema)
    connection.execute(f"create table {upto} (topic varchar, part bigint, upto bigint)")
    if current is not None:
        for place in connection.sql(f"select distinct _topic, _partition from {table.events}").fetchall():
            version = current.transaction_version(application(cluster_of(current), TopicPartition(*place)))
            connection.execute(f"insert into {upto} values (?, ?, ?)", [*place, version or 0])
    # Each key is once in the folded table, so that only keys with events since then have rows to choose from: a window
    # over the whole table would sort all of it for each question.
    key = table.current.key
    connection.execute(
        f"""
        create view {name} as
        with unfolded as materialized (
            select event.* from {table.events} event left join {upto}
            on event._topic = topic and event._partition = part where event._offset >= coalesce(upto, 0)
        ), newest as (
            select * from (
                from {folded} semi join unfolded using ({key}) union all by name from unfolded
            )
            qualify row_number() over (partition by {key} order by {table.current.newest_by} desc, _offset desc) = 1
        )
        from {folded} anti join unfolded using ({key}) union all by name from newest
        """
    )
    return files
