"""The warehouse as Delta Lake tables: rows and Kafka offsets are one commit, and a stale writer's commit is refused."""

import logging
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from stat import S_IXOTH
from urllib.parse import unquote

import duckdb
import pyarrow as pa
from aiokafka import TopicPartition
from deltalake import CommitProperties, DeltaTable, Schema, Transaction, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError

from runtime.private_directory import make_missing
from sinks.consume import Fenced, Unusable
from sinks.warehouse.delta.deletes import LOG_RETENTION, keys_predicate, predicates
from sinks.warehouse.delta.durable_log import set_torn_tail_aside, sync_commits
from sinks.warehouse.delta.files import (
    FILLED_FROM,
    application,
    cluster_of,
    create_view,
    files_of,
    first_line,
    local_path,
    require_name,
    table_uri,
)
from sinks.warehouse.removals import Removal
from sinks.warehouse.tables import Current, Row, Table, partition_of

logger = logging.getLogger(__name__)

_FOLD_EVERY = 20
_COMPACT_EVERY = 50
_ATTEMPTS = 5
# A reader keeps reading the files that it found when it began; after a day it has surely ended.
_KEPT_HOURS = 24


class _Stored:
    """One Delta table, with the next offset that it has of each partition that we hold."""

    def __init__(self, uri: str, schema: pa.Schema, cluster_id: str) -> None:
        self._path, self._cluster_id = local_path(uri), cluster_id
        self.schema = schema
        self.next: dict[TopicPartition, int] = {}
        self._held: Collection[TopicPartition] = ()
        if self._path is not None:
            require_name(self._path)
            make_missing(self._path)
            # That may be intended, so that no permission is changed.
            if self._path.stat().st_mode & self._path.parent.stat().st_mode & S_IXOTH:
                logger.warning("warehouse.others_can_read", extra={"table": self._path.name})
            torn = set_torn_tail_aside(self._path)
            if torn:
                logger.warning("warehouse.torn_tail_set_aside", extra={"table": self._path.name, "commits": torn})
        try:
            self.delta = DeltaTable.create(
                uri, schema, mode="ignore", description=FILLED_FROM + cluster_id, configuration=LOG_RETENTION
            )
            files_of(self.delta)
        except (DeltaError, OSError) as fault:
            raise Unusable(f"{uri} cannot be opened: {first_line(fault)}") from None
        if not (self.delta.metadata().description or "").startswith(FILLED_FROM):
            raise Unusable(
                f"{uri} does not name the Kafka cluster that filled it: the table is not ours, or lost its description,"
                " and its offsets mean nothing. Point LEADSTREAM_WAREHOUSE at a new place and let it fill."
            )
        if cluster_of(self.delta) != cluster_id:
            raise Unusable(
                f"the warehouse was filled from Kafka cluster {cluster_of(self.delta)}, but this is {cluster_id}:"
                " offsets do not carry over. Point LEADSTREAM_WAREHOUSE at a new place and let it fill."
            )
        self._add_columns()
        self._shorten_the_log()
        self._synced = self.delta.version() - 1
        self.sync()

    def _add_columns(self) -> None:
        """Add the columns of a newer release before any write: a merge that adds columns loses the description."""
        there = {field.name for field in self.delta.schema().fields}
        missing = [field for field in Schema.from_arrow(self.schema).fields if field.name not in there]
        if missing:
            with self.unless_done_by_another():
                self.delta.alter.add_columns(missing)

    def _shorten_the_log(self) -> None:
        if LOG_RETENTION.items() - self.delta.metadata().configuration.items():
            with self.unless_done_by_another():
                self.delta.alter.set_table_properties(dict(LOG_RETENTION))

    @contextmanager
    def unless_done_by_another(self) -> Iterator[None]:
        """Around a change that another worker may make at the same time; on a conflict theirs stays."""
        try:
            yield
        except CommitFailedError:
            self.delta.update_incremental()

    def hold(self, partitions: Collection[TopicPartition]) -> None:
        self._held = partitions
        self.refresh()
        self._require_no_restore()

    def refresh(self) -> None:
        """Read the commits of all workers since the last time."""
        self.delta.update_incremental()
        stored = {place: self.delta.transaction_version(application(self._cluster_id, place)) for place in self._held}
        self.next = {place: version for place, version in stored.items() if version is not None}

    def _require_no_restore(self) -> None:
        """A restored table keeps its later offsets, so that the rows in between would never come again."""
        for commit in self.delta.history():
            if commit.get("operation") == "RESTORE":
                raise Unusable(
                    f"{unquote(self.delta.table_uri)} was restored to an older version (its version"
                    f" {commit.get('version')}), and rows since then are gone: `leadstream warehouse rebuild`, or point"
                    " LEADSTREAM_WAREHOUSE at a new place and let it fill."
                )

    def ends(self, offsets: Mapping[TopicPartition, int]) -> dict[TopicPartition, int]:
        """The offsets, none lower than the stored one: Delta accepts a lower version without an error."""
        return {place: max(offset, self.next.get(place, 0)) for place, offset in offsets.items()}

    def commit(self, ends: Mapping[TopicPartition, int]) -> CommitProperties:
        transactions = [Transaction(application(self._cluster_id, place), end) for place, end in ends.items()]
        return CommitProperties(app_transactions=transactions)

    def delete(self, predicate: str) -> None:
        """Delete rows. Raises `Fenced` when another process has written for our partitions."""
        expected = dict(self.next)
        self.change(lambda: self.delta.delete(predicate))
        # A commit without a conflict includes the commits of other workers meanwhile.
        self.refresh()
        if self.next != expected:
            raise Fenced
        self.sync()

    def change(self, commit: Callable[[], object]) -> None:
        """Commit a change; after a conflict with workers that hold other partitions, try again. Raises `Fenced`."""
        expected = dict(self.next)
        for attempt in range(_ATTEMPTS):
            try:
                commit()
                return
            except CommitFailedError as fault:
                self.refresh()
                if self.next != expected or attempt == _ATTEMPTS - 1:
                    raise Fenced from fault

    def sync(self) -> None:
        version = self.delta.version()
        if self._path is not None:
            sync_commits(self._path, self._synced, version)
        self._synced = version


@dataclass(slots=True)
class _Kept:
    """A table of ours as Delta tables; `current` is None where the table has none."""

    table: Table
    events: _Stored
    current: _Stored | None
    unfolded: int = 0
    uncompacted: int = 0


class DeltaWarehouse:
    """Appends each record to `events` at once; merges the newest into `current` every 20 commits and when idle.

    `tables` are the tables by topic name; `root` is a directory or the URI of object storage.
    """

    def __init__(self, root: str, tables: Mapping[str, Table], *, cluster_id: str) -> None:
        def stored(table: Table, name: str) -> _Stored:
            return _Stored(table_uri(root, name), table.schema, cluster_id)

        self._kept = {
            table.events: _Kept(
                table,
                stored(table, table.events),
                stored(table, table.current.name) if table.current is not None else None,
            )
            for table in dict.fromkeys(tables.values())
        }
        self._of_topic = {topic: self._kept[table.events] for topic, table in tables.items()}

    def open(self, assigned: Collection[TopicPartition]) -> dict[TopicPartition, int]:
        stored: dict[TopicPartition, int] = {}
        for kept in self._kept.values():
            held = [place for place in assigned if self._of_topic.get(place.topic) is kept]
            kept.events.hold(held)
            if kept.current is not None:
                kept.current.hold(held)
                kept.unfolded = int(kept.events.next != kept.current.next)
            stored.update(kept.events.next)
        return stored

    def write(self, rows: Mapping[str, Sequence[Row]], offsets: Mapping[TopicPartition, int]) -> None:
        for kept in self._kept.values():
            of_table = [row for topic, some in rows.items() if self._of_topic[topic] is kept for row in some]
            ends = kept.events.ends(
                {place: end for place, end in offsets.items() if self._of_topic[place.topic] is kept}
            )
            if any(kept.events.next.get(place) != end for place, end in ends.items()):
                _append(kept.events, of_table, ends)
                kept.unfolded += 1
            if kept.unfolded >= _FOLD_EVERY:
                _fold(kept)

    def forget(self, removals: Sequence[Removal]) -> None:
        for kept in self._kept.values():
            for predicate in predicates(removals, kept.table, kept.events.delta):
                kept.events.delete(predicate)
            keys = keys_predicate(removals, kept.table)
            if keys is not None and kept.current is not None:
                kept.current.delete(keys)

    def tidy(self) -> None:
        for kept in self._kept.values():
            for stored in filter(None, (kept.events, kept.current)):
                _vacuum(stored)

    def fold(self) -> None:
        for kept in self._kept.values():
            if kept.unfolded:
                _fold(kept)

    def close(self) -> None:
        """Nothing to do: tables are files."""


def _append(events: _Stored, rows: Sequence[Row], ends: Mapping[TopicPartition, int]) -> None:
    fresh = [row for row in rows if row["_offset"] >= events.next.get(partition_of(row), 0)]
    arrow = pa.Table.from_pylist(fresh, schema=events.schema)
    try:
        write_deltalake(events.delta, arrow, mode="append", schema_mode="merge", commit_properties=events.commit(ends))
    except CommitFailedError as fault:
        raise Fenced from fault
    events.sync()
    events.next.update(ends)


def _fold(kept: _Kept) -> None:
    if kept.current is not None and kept.table.current is not None:
        _merge_newest(kept.events, kept.current, kept.table.current)
    kept.uncompacted += kept.unfolded
    kept.unfolded = 0
    if kept.uncompacted >= _COMPACT_EVERY:
        kept.uncompacted = 0
        _compact(kept.events)
        if kept.current is not None:
            _compact(kept.current)


def _merge_newest(events: _Stored, current: _Stored, of: Current) -> None:
    upto = current.ends(events.next)
    newest = _newest_events(events, of, {place: current.next.get(place, 0) for place in upto})
    current.change(lambda: _merge(current, newest, of, current.commit(upto)))
    current.sync()
    current.next.update(upto)


def _newest_events(events: _Stored, of: Current, since: Mapping[TopicPartition, int]) -> pa.Table:
    """The newest event of each key among those at or after the given offsets."""
    with duckdb.connect(":memory:", config={"temp_directory": ""}) as connection:
        create_view(connection, "event", events.delta, events.schema)
        connection.execute("create table folded (topic varchar, part bigint, upto bigint)")
        connection.executemany(
            "insert into folded values (?, ?, ?)", [(*place, offset) for place, offset in since.items()]
        )
        newest = connection.sql(
            f"""
            select event.* from event
            join folded on event._topic = topic and event._partition = part and event._offset >= upto
            qualify row_number() over (
                partition by {of.key} order by {of.newest_by} desc, event._offset desc
            ) = 1
            """
        ).to_arrow_table()
        of_another_release = list(newest.schema)[len(events.schema) :]
        return newest.cast(pa.schema([*events.schema, *of_another_release]))


def _merge(current: _Stored, newest: pa.Table, of: Current, properties: CommitProperties) -> None:
    (
        current.delta.merge(
            newest,
            predicate=f"new.{of.key} = held.{of.key}",
            source_alias="new",
            target_alias="held",
            merge_schema=True,
            commit_properties=properties,
        )
        .when_matched_update_all(predicate=f"new.{of.newest_by} > held.{of.newest_by}")
        .when_not_matched_insert_all()
        .execute()
    )


def _compact(stored: _Stored) -> None:
    """Join small files; on a conflict with another worker leave it for the next time."""
    with stored.unless_done_by_another():
        stored.delta.optimize.compact()
    _vacuum(stored)


def _vacuum(stored: _Stored) -> None:
    with stored.unless_done_by_another():
        stored.delta.vacuum(retention_hours=_KEPT_HOURS, dry_run=False, enforce_retention_duration=False)
        stored.delta.create_checkpoint()
        stored.delta.cleanup_metadata()
    stored.sync()
