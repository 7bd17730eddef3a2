"""What a warehouse has to forget: a key whose record was taken out of a compacted topic, or a person."""

from dataclasses import dataclass
from datetime import datetime

from sinks.warehouse.tables import DEAD_LETTER_TABLE, MESSAGE_TABLE, Row, Table


@dataclass(frozen=True, slots=True)
class KeyForgotten:
    """A tombstone: every row of this key goes, in `table.events` and in its current table."""

    table: Table
    key: str

    def takes(self, table: Table, row: Row) -> bool:
        """Whether a row of a table goes."""
        current = self.table.current
        return table is self.table and current is not None and row[current.key] == self.key


@dataclass(frozen=True, slots=True)
class PersonForgotten:
    """An erasure: what was received of the person up to a time goes from the tables that no lead leads to.

    A dead letter goes when its bytes hold the PSID, with whoever else is in it.
    """

    page_id: str
    psid: str
    until: datetime

    def takes(self, table: Table, row: Row) -> bool:
        """Whether a row of a table goes."""
        if table is MESSAGE_TABLE:
            return (row["page_id"], row["psid"]) == (self.page_id, self.psid) and row["received_at"] <= self.until
        if table is DEAD_LETTER_TABLE:
            held = any(self.psid.encode() in (row[name] or b"") for name in ("key", "value"))
            return held and row["refused_at"] <= self.until
        return False


Removal = KeyForgotten | PersonForgotten
# What a sink makes of a record: a row, that rows go, or nothing.
Kept = Row | Removal | None
