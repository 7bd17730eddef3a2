"""The spool on disk: deliveries in one SQLite file, in the order of their acceptance."""

import sqlite3
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from ingest.publisher import Delivery
from runtime.clock import from_millis, to_millis
from runtime.disk_sync import sync
from runtime.mendable import Mendable
from runtime.private_directory import create_private, make_missing

# The space of the signature, the id and SQLite beside a body; so the limit bounds the number of rows too.
ROW_OVERHEAD = 512
_READ_BYTES = 4 * 1024 * 1024
_READ_ROWS = 500

_SETUP = """
    pragma locking_mode = exclusive;
    pragma journal_mode = wal;
    pragma synchronous = full;
    pragma journal_size_limit = 67108864;
    create table if not exists deliveries (
        position integer primary key autoincrement,
        id text not null, received_at integer not null, signature text not null, body blob not null
    ) strict;
"""


class SpoolUnusable(Mendable):
    """Another process uses this spool, or the disk refuses it; the message says which."""


class Spooled(NamedTuple):
    """A delivery at its position in the spool. Positions grow and are never reused."""

    position: int
    delivery: Delivery


class SpoolFile:
    """The spool of one process. Opening it raises `SpoolUnusable`.

    A change is on disk when its method returns; after `sqlite3.Error` nothing has changed. Not for two threads at once.
    """

    def __init__(self, path: Path) -> None:
        try:
            self._connection = _open(path)
        except sqlite3.Error as error:
            in_use = error.sqlite_errorcode == sqlite3.SQLITE_BUSY
            raise SpoolUnusable(f"the spool {path} {'is in use by another process' if in_use else error}") from error
        except OSError as error:
            raise SpoolUnusable(f"the spool {path}: {error.strerror}") from error
        except UnicodeDecodeError as error:
            # SQLite's message quotes the damaged bytes.
            raise SpoolUnusable(f"the spool {path}: its tables cannot be read") from error

    def write(self, arrived: Sequence[Delivery], drained: Iterable[int]) -> list[int]:
        """Append the arrivals and remove the drained positions, in one commit; return the new positions."""
        with self._connection as transaction:
            transaction.execute("begin immediate")
            transaction.executemany("delete from deliveries where position = ?", ((position,) for position in drained))
            return [self._append(delivery) for delivery in arrived]

    def _append(self, delivery: Delivery) -> int:
        row = (delivery.id, to_millis(delivery.received_at), delivery.signature, delivery.body)
        cursor = self._connection.execute(
            "insert into deliveries (id, received_at, signature, body) values (?, ?, ?, ?)", row
        )
        assert cursor.lastrowid is not None
        return cursor.lastrowid

    def read(self, after: int) -> list[Spooled]:
        """The next deliveries behind a position, in order: `_READ_ROWS`, or as many as have `_READ_BYTES`.

        Raises `sqlite3.Error` for a damaged file.
        """
        batch: list[Spooled] = []
        size = 0
        rows = self._connection.execute(
            "select position, id, received_at, signature, body from deliveries where position > ? order by position"
            " limit ?",
            (after, _READ_ROWS),
        )
        for position, delivery_id, received_at, signature, body in rows:
            try:
                batch.append(Spooled(position, Delivery(delivery_id, from_millis(received_at), signature, body)))
            except (OverflowError, TypeError):
                raise sqlite3.DatabaseError(f"delivery {position} of the spool is damaged") from None
            size += len(body)
            if size >= _READ_BYTES:
                break
        rows.close()
        return batch

    def newest_ids(self) -> frozenset[str]:
        """The ids of the last deliveries: as many as one `read` gives."""
        rows = self._connection.execute("select id from deliveries order by position desc limit ?", (_READ_ROWS,))
        return frozenset(delivery_id for (delivery_id,) in rows)

    def contents(self) -> tuple[int, int]:
        """The number of deliveries, and their size: the bodies and `ROW_OVERHEAD` for each."""
        count, size = self._connection.execute(
            "select count(*), coalesce(sum(length(body)), 0) from deliveries"
        ).fetchone()
        return count, size + count * ROW_OVERHEAD

    def wipe(self) -> None:
        """Free the space of drained deliveries, and so erase their content. Cheap only while the spool is empty."""
        self._connection.execute("vacuum")
        self._connection.execute("pragma wal_checkpoint(truncate)")

    def close(self) -> None:
        self._connection.close()


def move_spool(source: Path, target: Path) -> None:
    """Append a spool to another and remove it. A move that a crash has cut short can be done again."""
    leaving, staying = SpoolFile(source), SpoolFile(target)
    try:
        # A crash between the two writes below leaves a batch in both.
        moved = staying.newest_ids()
        while batch := leaving.read(0):
            staying.write([spooled.delivery for spooled in batch if spooled.delivery.id not in moved], [])
            leaving.write([], [spooled.position for spooled in batch])
    finally:
        leaving.close()
        staying.close()
    source.unlink()


def _open(path: Path) -> sqlite3.Connection:
    make_missing(path.parent)
    # Bodies hold personal data: no other user of this machine may read them.
    create_private(path)
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=0.1)
    try:
        connection.executescript(_SETUP)
        # SQLite takes the exclusive lock at the first write, and keeps it.
        connection.executescript("begin immediate; commit")
        # Find a damaged file here, not at the first delivery.
        connection.execute("select count(*), sum(length(body)) from deliveries").fetchone()
        # A new file is durable once its directory is synced.
        sync(path.parent)
    except BaseException:
        connection.close()
        raise
    return connection
