"""Delta tables where they lie: their addresses, their files, and which of them can be read."""

import re
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import unquote

from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from sinks.consume import Unusable

# delta-rs looks for these somewhere else than where they are.
_MISREAD = re.compile(r"[\[\]\\]|%[0-9A-Fa-f]{2}")


def local_path(uri: str) -> Path | None:
    """The directory of a warehouse on this machine, None for object storage."""
    if uri.startswith("file://"):
        return Path(uri.removeprefix("file://"))
    return None if "://" in uri else Path(uri)


def table_uri(root: str, name: str) -> str:
    path = local_path(root)
    return str(path / name) if path is not None else f"{root.rstrip('/')}/{name}"


def files_of(delta: DeltaTable) -> list[str]:
    """The files of a table's rows, as DuckDB opens them. Raises `Unusable` where they do not tell what the rows are."""
    # https://github.com/delta-io/delta/blob/master/PROTOCOL.md#deletion-vectors and #column-mapping
    hidden = "deletionVectors" in (delta.protocol().reader_features or ())
    if hidden or delta.metadata().configuration.get("delta.columnMapping.mode", "none") != "none":
        raise Unusable(
            f"another program gave {unquote(delta.table_uri)} {'deletion vectors' if hidden else 'column mapping'},"
            " with which its files are not read as they are: rewrite the table without"
        )
    # Paths come percent-encoded, those of object storage too.
    return [unquote(uri) for uri in delta.file_uris()]


def stored_tables(root: str, names: Iterable[str]) -> dict[str, DeltaTable]:
    """Those of these tables that a warehouse has. Raises `Unusable` where it has none, or one cannot be read."""
    require_directory(root)
    try:
        uris = {name: table_uri(root, name) for name in names}
        found = {name: DeltaTable(uri) for name, uri in uris.items() if DeltaTable.is_deltatable(uri)}
    except (DeltaError, OSError) as fault:
        raise Unusable(f"the warehouse at {root} cannot be read: {first_line(fault)}") from None
    if not found:
        raise _none_at(root)
    return found


def require_directory(root: str) -> None:
    """Raises `Unusable` where a directory cannot be read or cannot hold Delta tables; object storage is not looked at.

    A table that may not be looked at would be taken for one that is not there.
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
