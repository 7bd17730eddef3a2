"""The spool on disk: deliveries in one SQLite file, in the order of their acceptance."""

import os
import sqlite3
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from ingest.publisher import Delivery
from runtime.clock import from_millis, to_millis
from runtime.private_directory import create_private, make_missing

# What SQLite, the signature and the id take beside a body; it bounds the number of rows as well as their bytes.
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


class SpoolUnusable(Exception):
    """Another process has this spool, or the disk does not let us have it; the message says which."""


class Spooled(NamedTuple):
    """A delivery at its position in the spool. Positions grow and are never given twice."""

    position: int
    delivery: Delivery


class SpoolFile:
    """One process's spool. What a method has changed is on disk when it returns; `sqlite3.Error` means nothing changed.

    Not for two threads at once. Raises `SpoolUnusable`.
    """

    def __init__(self, path: Path) -> None:
        try:
            self._connection = _open(path)
        except sqlite3.Error as error:
            taken = error.sqlite_errorcode == sqlite3.SQLITE_BUSY
            raise SpoolUnusable(f"the spool {path} {'is in use by another process' if taken else error}") from error
        except OSError as error:
            raise SpoolUnusable(f"the spool {path}: {error.strerror}") from error
        except UnicodeDecodeError as error:
            # SQLite's own message, where it quotes what is damaged.
            raise SpoolUnusable(f"the spool {path}: its tables cannot be read") from error

    def write(self, arrived: Sequence[Delivery], drained: Iterable[int]) -> list[int]:
        """Append what arrived and remove what has been drained, as one commit; returns the new positions."""
        with self._connection as transaction:
            transaction.execute("begin immediate")
            transaction.executemany("delete from deliveries where position = ?", ((one,) for one in drained))
            return [self._append(delivery) for delivery in arrived]

    def _append(self, delivery: Delivery) -> int:
        row = (delivery.id, to_millis(delivery.received_at), delivery.signature, delivery.body)
        cursor = self._connection.execute(
            "insert into deliveries (id, received_at, signature, body) values (?, ?, ?, ?)", row
        )
        assert cursor.lastrowid is not None
        return cursor.lastrowid

    def read(self, after: int) -> list[Spooled]:
        """The next deliveries behind a position, in order: a few hundred, or as many as are a few megabytes.

        Raises `sqlite3.Error` for a damaged file.
        """
        found: list[Spooled] = []
        size = 0
        rows = self._connection.execute(
            "select position, id, received_at, signature, body from deliveries where position > ? order by position"
            " limit ?",
            (after, _READ_ROWS),
        )
        for position, delivery_id, received_at, signature, body in rows:
            try:
                found.append(Spooled(position, Delivery(delivery_id, from_millis(received_at), signature, body)))
            except (OverflowError, TypeError):
                raise sqlite3.DatabaseError(f"delivery {position} of the spool is damaged") from None
            size += len(body)
            if size >= _READ_BYTES:
                break
        rows.close()
        return found

    def contents(self) -> tuple[int, int]:
        """How many deliveries are in it, and what they take: their bodies and `ROW_OVERHEAD` for each."""
        count, size = self._connection.execute(
            "select count(*), coalesce(sum(length(body)), 0) from deliveries"
        ).fetchone()
        return count, size + count * ROW_OVERHEAD

    def wipe(self) -> None:
        """Give the space of drained deliveries back, and with it what they said. Cheap only while it is empty."""
        self._connection.execute("vacuum")
        self._connection.execute("pragma wal_checkpoint(truncate)")

    def close(self) -> None:
        self._connection.close()


def move_spool(source: Path, target: Path) -> None:
    """Append a spool to another and remove it. Broken off, it leaves some in both, which makes second copies."""
    leaving, staying = SpoolFile(source), SpoolFile(target)
    try:
        while moving := leaving.read(0):
            staying.write([one.delivery for one in moving], [])
            leaving.write([], [one.position for one in moving])
    finally:
        leaving.close()
        staying.close()
    source.unlink()


def _open(path: Path) -> sqlite3.Connection:
    make_missing(path.parent)
    # Bodies hold personal data: nobody else on this machine may read them.
    create_private(path)
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=0.1)
    try:
        connection.executescript(_SETUP)
        # The exclusive lock is taken by the first write and then kept.
        connection.executescript("begin immediate; commit")
        # A file that is damaged is found out here, and not by the first delivery.
        connection.execute("select count(*), sum(length(body)) from deliveries").fetchone()
        _sync_directory(path.parent)
    except BaseException:
        connection.close()
        raise
    return connection


def _sync_directory(directory: Path) -> None:
    """A new file is durable once its directory is."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
