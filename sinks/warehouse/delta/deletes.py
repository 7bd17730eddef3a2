"""Deletes from Delta tables for good: which rows, how long their logs keep traces, and the vacuum at once."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

import duckdb
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from sinks.consume import Unusable
from sinks.warehouse.delta.files import create_view, first_line, stored_tables
from sinks.warehouse.removals import KeyForgotten, PersonForgotten, Removal
from sinks.warehouse.tables import DEAD_LETTER_TABLE, MESSAGE_TABLE, NAMES, Row, Table

# Log entries hold the least and the greatest value of each column of a file, PSIDs and answers among them.
LOG_RETENTION: Mapping[str, str | None] = {"delta.logRetentionDuration": "interval 1 days"}
_NO_LOG_RETENTION: Mapping[str, str | None] = {"delta.logRetentionDuration": "interval 0 seconds"}

_MESSAGES = "page_id = $page_id and psid = $psid and received_at <= $until"
# DuckDB cannot search bytes in bytes; `PersonForgotten.takes` checks these candidates again.
_LETTERS = (
    "contains(hex(coalesce(key, '') || coalesce(value, '')), hex($psid)) and $page_id is not null"
    " and refused_at <= $until"
)
_CANDIDATES = {MESSAGE_TABLE.events: _MESSAGES, DEAD_LETTER_TABLE.events: _LETTERS}


def predicates(removals: Sequence[Removal], table: Table, delta: DeltaTable) -> list[str]:
    """The predicates of the rows to delete from the `events` of a table."""
    keys = keys_predicate(removals, table)
    people = [removal for removal in removals if isinstance(removal, PersonForgotten)]
    places: dict[tuple[str, int], set[int]] = defaultdict(set)
    for person in people if table.events in _CANDIDATES else ():
        for row in _candidates(delta, table, person):
            if person.takes(table, row):
                places[row["_topic"], row["_partition"]].add(row["_offset"])
    by_place = [
        f"_topic = {_quoted(topic)} and _partition = {partition} and _offset in ({', '.join(map(str, offsets))})"
        for (topic, partition), offsets in places.items()
    ]
    return by_place if keys is None else [keys, *by_place]


def keys_predicate(removals: Sequence[Removal], table: Table) -> str | None:
    """The predicate of the rows to delete by key, from `events` and the current table; None when there are none."""
    keys = sorted({removal.key for removal in removals if isinstance(removal, KeyForgotten) and removal.table is table})
    if not keys or table.current is None:
        return None
    return f"{table.current.key} in ({', '.join(map(_quoted, keys))})"


def _candidates(delta: DeltaTable, table: Table, person: PersonForgotten) -> list[Row]:
    until = person.until if table is MESSAGE_TABLE else person.refused_until
    with duckdb.connect(":memory:", config={"temp_directory": ""}) as connection:
        create_view(connection, "stored", delta, table.schema)
        candidates = connection.sql(
            f"select * from stored where {_CANDIDATES[table.events]}",
            params={"page_id": person.page_id, "psid": person.psid, "until": until},
        )
        rows: list[Row] = candidates.to_arrow_table().select(table.schema.names).cast(table.schema).to_pylist()
        return rows


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def vacuum_now(root: str) -> int:
    """Remove every file without a present row, and the log before now; gives the number of tables.

    No other process may write or read meanwhile. Raises `Unusable`.
    """
    tables = stored_tables(root, NAMES).values()
    try:
        for delta in tables:
            _vacuum(delta)
    except (DeltaError, OSError) as fault:
        raise Unusable(f"{root} cannot be written to: {first_line(fault)}") from None
    return len(tables)


def _vacuum(delta: DeltaTable) -> None:
    delta.vacuum(retention_hours=0, dry_run=False, enforce_retention_duration=False)
    delta.alter.set_table_properties(dict(_NO_LOG_RETENTION))
    delta.create_checkpoint()
    delta.cleanup_metadata()
    delta.alter.set_table_properties(dict(LOG_RETENTION))
