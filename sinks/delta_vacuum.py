"""What was deleted from Delta tables, taken off the disk at once."""

from collections.abc import Mapping

from deltalake import DeltaTable

from sinks.delta import table_uri
from sinks.delta_forget import LOG_RETENTION
from sinks.tables import TABLES

_NO_LOG_RETENTION: Mapping[str, str | None] = {"delta.logRetentionDuration": "interval 0 seconds"}


def vacuum_now(root: str) -> int:
    """Remove every file that no row of now is in, and the log before now; gives how many tables there are.

    Nobody else may write or read meanwhile.
    """
    names = [name for table in TABLES for name in (table.events, table.current.name if table.current else None) if name]
    tables = [DeltaTable(uri) for name in names if DeltaTable.is_deltatable(uri := table_uri(root, name))]
    for delta in tables:
        delta.vacuum(retention_hours=0, dry_run=False, enforce_retention_duration=False)
        delta.alter.set_table_properties(dict(_NO_LOG_RETENTION))
        delta.create_checkpoint()
        delta.cleanup_metadata()
        delta.alter.set_table_properties(dict(LOG_RETENTION))
    return len(tables)
