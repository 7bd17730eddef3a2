"""What was deleted from Delta tables, taken off the disk at once."""

from collections.abc import Mapping

from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from sinks.consume import Unusable
from sinks.warehouse.delta.deletes import LOG_RETENTION
from sinks.warehouse.delta.files import first_line, stored_tables
from sinks.warehouse.tables import NAMES

_NO_LOG_RETENTION: Mapping[str, str | None] = {"delta.logRetentionDuration": "interval 0 seconds"}


def vacuum_now(root: str) -> int:
    """Remove every file that no row of now is in, and the log before now; gives how many tables there are.

    Nobody else may write or read meanwhile. Raises `Unusable`.
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
