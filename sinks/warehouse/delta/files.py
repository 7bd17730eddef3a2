"""Delta tables in their place: their addresses, their files, and the Kafka cluster and offsets that they name."""

import re
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import unquote

import duckdb
import pyarrow as pa
from aiokafka import TopicPartition
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from sinks.consume import Unusable

_SINK = "leadstream-warehouse"
FILLED_FROM = "filled from Kafka cluster "
# delta-rs looks for paths with these characters in a wrong place.
_MISREAD = re.compile(r"[\[\]\\]|%[0-9A-Fa-f]{2}")


def application(cluster_id: str, partition: TopicPartition) -> str:
    """The name of the transaction whose version is the next offset of a partition.

    https://github.com/delta-io/delta/blob/master/PROTOCOL.md#transaction-identifiers
    """
    return f"{_SINK}/{cluster_id}/{partition.topic}/{partition.partition}"


def cluster_of(table: DeltaTable) -> str:
    """The Kafka cluster that a table is filled from."""
    return str(table.metadata().description).removeprefix(FILLED_FROM)


def local_path(uri: str) -> Path | None:
    """The directory of a warehouse on this machine, None for object storage."""
    if uri.startswith("file://"):
        return Path(uri.removeprefix("file://"))
    return None if "://" in uri else Path(uri)


def table_uri(root: str, name: str) -> str:
    path = local_path(root)
    return str(path / name) if path is not None else f"{root.rstrip('/')}/{name}"


def files_of(delta: DeltaTable) -> list[str]:
    """The files of a table's rows, as DuckDB opens them. Raises `Unusable` where rows are not simply those files."""
    # https://github.com/delta-io/delta/blob/master/PROTOCOL.md#deletion-vectors and #column-mapping
    hidden = "deletionVectors" in (delta.protocol().reader_features or ())
    if hidden or delta.metadata().configuration.get("delta.columnMapping.mode", "none") != "none":
        raise Unusable(
            f"another program gave {unquote(delta.table_uri)} {'deletion vectors' if hidden else 'column mapping'},"
            " with which its files are not read as they are: rewrite the table without"
        )
    # Paths come percent-encoded, those of object storage too.
    return [unquote(uri) for uri in delta.file_uris()]


def create_view(
    connection: duckdb.DuckDBPyConnection, name: str, delta: DeltaTable | None, schema: pa.Schema
) -> list[str]:
    """Make a view of a table's rows; gives their files. Raises `Unusable` as `files_of` does.

    It has the columns of `schema`, even where no file has them yet, and then those of another release.
    """
    connection.register("_no_rows", schema.empty_table())
    connection.execute(f"create table _empty_{name} as from _no_rows")
    connection.unregister("_no_rows")
    files = files_of(delta) if delta is not None else []
    rows = f"from _empty_{name}"
    if files:
        listed = ", ".join("'" + file.replace("'", "''") + "'" for file in files)
        rows += f" union all by name from read_parquet([{listed}], union_by_name = true)"
    connection.execute(f"create view {name} as {rows}")
    return files


def stored_tables(root: str, names: Iterable[str]) -> dict[str, DeltaTable]:
    """The tables that a warehouse has, by name. Raises `Unusable` where it has none, or one cannot be read."""
    require_directory(root)
    try:
        uris = {name: table_uri(root, name) for name in names}
        tables = {name: DeltaTable(uri) for name, uri in uris.items() if DeltaTable.is_deltatable(uri)}
    except (DeltaError, OSError) as fault:
        raise Unusable(f"the warehouse at {root} cannot be read: {first_line(fault)}") from None
    if not tables:
        raise _none_at(root)
    return tables


def require_directory(root: str) -> None:
    """Raises `Unusable` where a directory cannot be read or cannot hold Delta tables; passes any object storage.

    delta-rs takes a table that we may not read for one that does not exist.
    """
    path = local_path(root)
    if path is None:
        return
    require_name(path)
    try:
        next(path.iterdir(), None)
    except FileNotFoundError:
        raise _none_at(root) from None
    except OSError as fault:
        raise Unusable(f"the warehouse at {root} cannot be read: {fault.strerror}") from None


def _none_at(root: str) -> Unusable:
    return Unusable(f"there is no warehouse at {root}: start `leadstream sink warehouse`, or correct its address")


def require_name(path: Path) -> None:
    """Raises `Unusable` for a path that delta-rs misreads."""
    if _MISREAD.search(str(path.absolute())):
        raise Unusable(
            f"{path} cannot hold Delta tables: its path has a bracket, a backslash, or a % before two digits"
        )


def first_line(fault: Exception) -> str:
    return str(fault).strip().split("\n")[0]
