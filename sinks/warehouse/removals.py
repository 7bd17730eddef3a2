"""The removals of a warehouse: of a key after its tombstone, and of an erased person's rows."""

from dataclasses import dataclass
from datetime import datetime

from sinks.warehouse.tables import DEAD_LETTER_TABLE, MESSAGE_TABLE, Row, Table


@dataclass(frozen=True, slots=True)
class KeyForgotten:
    """A tombstone: every row of this key goes from `table.events` and from the current table."""

    table: Table
    key: str

    def takes(self, table: Table, row: Row) -> bool:
        """Whether a row of a table goes."""
        current = self.table.current
        return table is self.table and current is not None and row[current.key] == self.key


@dataclass(frozen=True, slots=True)
class PersonForgotten:
    """An erasure: the person's messages received up to a time go, and the dead letters written up to another.

    A dead letter goes when its bytes hold the PSID, even if it concerns other people too. One of what was received
    before the erasure may be written later, by a splitter that is behind.
    """

    page_id: str
    psid: str
    until: datetime
    refused_until: datetime

    def takes(self, table: Table, row: Row) -> bool:
        """Whether a row of a table goes."""
        if table is MESSAGE_TABLE:
            return (row["page_id"], row["psid"]) == (self.page_id, self.psid) and row["received_at"] <= self.until
        if table is DEAD_LETTER_TABLE:
            held = any(self.psid.encode() in (row[name] or b"") for name in ("key", "value"))
            return held and row["refused_at"] <= self.refused_until
        return False


Removal = KeyForgotten | PersonForgotten
# A sink turns a record into a row, a removal, or nothing.
Kept = Row | Removal | None
