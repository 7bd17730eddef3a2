"""The warehouse as Delta Lake tables: rows and Kafka offsets are one commit, and a stale writer's commit is refused."""

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
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
from sinks.warehouse.delta.files import files_of, first_line, local_path, require_name, table_uri
from sinks.warehouse.removals import Removal
from sinks.warehouse.tables import Current, Row, Table

logger = logging.getLogger(__name__)

SINK = "leadstream-warehouse"
_CLUSTER = "filled from Kafka cluster "
_FOLD_EVERY = 20
_COMPACT_EVERY = 50
_ATTEMPTS = 5
# A reader goes on with the files that it found when it began; after a day it has surely ended.
_KEPT_HOURS = 24


def application(cluster_id: str, partition: TopicPartition) -> str:
    """The name of the transaction whose version is the next offset of a partition.

    https://github.com/delta-io/delta/blob/master/PROTOCOL.md#transaction-identifiers
    """
    return f"{SINK}/{cluster_id}/{partition.topic}/{partition.partition}"


def cluster_of(table: DeltaTable) -> str:
    """The Kafka cluster that a table is filled from."""
    return str(table.metadata().description).removeprefix(_CLUSTER)


def _is_open_to_others(table: Path) -> bool:
    """Whether any user of this machine may read the table. It may be meant for readers, so that nothing is narrowed."""
    return bool(table.stat().st_mode & table.parent.stat().st_mode & 0o001)


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
            if _is_open_to_others(self._path):
                logger.warning("warehouse.others_can_read", extra={"table": self._path.name})
            torn = set_torn_tail_aside(self._path)
            if torn:
                logger.warning("warehouse.torn_tail_set_aside", extra={"table": self._path.name, "commits": torn})
        try:
            self.delta = DeltaTable.create(
                uri, schema, mode="ignore", description=_CLUSTER + cluster_id, configuration=LOG_RETENTION
            )
            files_of(self.delta)
        except (DeltaError, OSError) as fault:
            raise Unusable(f"{uri} cannot be opened: {first_line(fault)}") from None
        if not (self.delta.metadata().description or "").startswith(_CLUSTER):
            raise Unusable(
                f"{uri} does not say from which Kafka cluster it was filled: not ours, or without its description,"
                " and offsets mean nothing without. Point LEADSTREAM_WAREHOUSE at a new place and let it fill."
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
        """Those of a newer release, before anything is written: a merge that widens a table loses its description."""
        there = {field.name for field in self.delta.schema().fields}
        missing = [field for field in Schema.from_arrow(self.schema).fields if field.name not in there]
        if missing:
            try:
                self.delta.alter.add_columns(missing)
            except CommitFailedError:
                # Another worker of this release was first.
                self.delta.update_incremental()

    def _shorten_the_log(self) -> None:
        if LOG_RETENTION.items() - self.delta.metadata().configuration.items():
            try:
                self.delta.alter.set_table_properties(dict(LOG_RETENTION))
            except CommitFailedError:
                self.delta.update_incremental()

    def hold(self, partitions: Collection[TopicPartition]) -> None:
        self._held = partitions
        self.look()
        self._require_no_restore()

    def look(self) -> None:
        """Take in what has been committed since, by whomever."""
        self.delta.update_incremental()
        stored = {place: self.delta.transaction_version(application(self._cluster_id, place)) for place in self._held}
        self.next = {place: version for place, version in stored.items() if version is not None}

    def _require_no_restore(self) -> None:
        """A table that was restored has its offsets of later on: the rows in between would never come again."""
        for commit in self.delta.history():
            if commit.get("operation") == "RESTORE":
                raise Unusable(
                    f"{unquote(self.delta.table_uri)} was restored to an older version (its version"
                    f" {commit.get('version')}), and rows since then are gone: `leadstream warehouse rebuild`, or point"
                    " LEADSTREAM_WAREHOUSE at a new place and let it fill."
                )

    def ends(self, offsets: Mapping[TopicPartition, int]) -> dict[TopicPartition, int]:
        """The offsets, none lower than what is stored: Delta takes a lower version without a word."""
        return {place: max(offset, self.next.get(place, 0)) for place, offset in offsets.items()}

    def commit(self, ends: Mapping[TopicPartition, int]) -> CommitProperties:
        transactions = [Transaction(application(self._cluster_id, place), end) for place, end in ends.items()]
        return CommitProperties(app_transactions=transactions)

    def delete(self, predicate: str) -> None:
        """Raises `Fenced` when somebody else has written for our partitions."""
        for attempt in range(_ATTEMPTS):
            try:
                self.delta.delete(predicate)
                break
            except CommitFailedError as fault:
                self._hold_still(fault, last=attempt == _ATTEMPTS - 1)
        # A commit that meets no conflict takes in whatever others have committed meanwhile.
        self._hold_still(None, last=False)
        self.sync()

    def _hold_still(self, fault: CommitFailedError | None, *, last: bool) -> None:
        expected = dict(self.next)
        self.look()
        if self.next != expected or last:
            raise Fenced from fault

    def sync(self) -> None:
        version = self.delta.version()
        if self._path is not None:
            sync_commits(self._path, self._synced, version)
        self._synced = version


@dataclass(slots=True)
class _Kept:
    """A table of ours as Delta tables; `current` is there where the table has one."""

    table: Table
    events: _Stored
    current: _Stored | None
    unfolded: int = 0
    uncompacted: int = 0


class DeltaWarehouse:
    """Appends every record to `events` at once; merges the newest into `current` every so many commits and when idle.

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
                stored.sync()

    def fold(self) -> None:
        for kept in self._kept.values():
            if kept.unfolded:
                _fold(kept)

    def close(self) -> None:
        """Nothing to give back: tables are files."""


def _append(events: _Stored, rows: Sequence[Row], ends: Mapping[TopicPartition, int]) -> None:
    fresh = [row for row in rows if row["_offset"] >= events.next.get(_partition(row), 0)]
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
    for attempt in range(_ATTEMPTS):
        try:
            _merge(current, newest, of, current.commit(upto))
            break
        except CommitFailedError as fault:
            # Workers that hold other partitions merge into the same files: theirs first, then ours.
            expected = dict(current.next)
            current.look()
            if current.next != expected or attempt == _ATTEMPTS - 1:
                raise Fenced from fault
    current.sync()
    current.next.update(upto)


def _partition(row: Row) -> TopicPartition:
    return TopicPartition(row["_topic"], row["_partition"])


def _newest_events(events: _Stored, of: Current, since: Mapping[TopicPartition, int]) -> pa.Table:
    """The newest event of each key among those at or after the given offsets."""
    files = files_of(events.delta)
    if not files:
        return events.schema.empty_table()
    with duckdb.connect(":memory:") as connection:
        connection.execute("create table folded (topic varchar, part bigint, upto bigint)")
        connection.executemany(
            "insert into folded values (?, ?, ?)", [(*place, offset) for place, offset in since.items()]
        )
        newest = connection.sql(
            f"""
            select event.* from read_parquet($files, union_by_name = true) event
            join folded on event._topic = topic and event._partition = part and event._offset >= upto
            qualify row_number() over (
                partition by {of.key} order by {of.newest_by} desc, event._offset desc
            ) = 1
            """,
            params={"files": files},
        )
        return _conformed(newest.to_arrow_table(), events.schema)


def _conformed(rows: pa.Table, schema: pa.Schema) -> pa.Table:
    """The rows with every column of the schema, in its type, and then what another release has written besides."""
    missing = [field for field in schema if field.name not in rows.column_names]
    for field in missing:
        rows = rows.append_column(field, pa.nulls(rows.num_rows, field.type))
    besides = [field for field in rows.schema if field.name not in schema.names]
    wanted = pa.schema([*schema, *besides])
    return rows.select(wanted.names).cast(wanted)


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
    """Join small files; on a conflict with another worker, which then does the same, leave it for the next time."""
    try:
        stored.delta.optimize.compact()
    except CommitFailedError:
        stored.delta.update_incremental()
    _vacuum(stored)
    stored.sync()


def _vacuum(stored: _Stored) -> None:
    try:
        stored.delta.vacuum(retention_hours=_KEPT_HOURS, dry_run=False, enforce_retention_duration=False)
        stored.delta.create_checkpoint()
        stored.delta.cleanup_metadata()
    except CommitFailedError:
        stored.delta.update_incremental()
