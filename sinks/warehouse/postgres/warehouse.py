"""The warehouse as PostgreSQL tables: one transaction copies, upserts and moves offsets, comparing before it sets."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import pyarrow as pa
from aiokafka import TopicPartition
from psycopg import Connection, sql
from psycopg.types.json import Jsonb

from sinks.consume import Fenced, Unavailable, Unusable
from sinks.warehouse.postgres.connection import connected
from sinks.warehouse.postgres.faults import faults_in_one_line
from sinks.warehouse.removals import KeyForgotten, PersonForgotten, Removal
from sinks.warehouse.tables import (
    DEAD_LETTER_TABLE,
    MESSAGE_TABLE,
    NAMES,
    PROVENANCE,
    Current,
    Row,
    Table,
    partition_of,
)
from sinks.warehouse.views import POSTGRES, VIEWS, view_queries

_SCALARS = {
    pa.string(): "text",
    pa.int64(): "bigint",
    pa.bool_(): "boolean",
    pa.timestamp("us", tz="UTC"): "timestamptz",
    pa.binary(): "bytea",
}
# A role of this name, if it exists, may read everything but the bytes of dead letters.
READER = "leadstream_reader"
_OFFSETS = "kafka_offsets"
# Any number will do, as long as all workers take the same lock while they create tables.
_MIGRATION_LOCK = 7_166_326_211


def relations() -> list[str]:
    """The names of everything that is created in the schema."""
    return [_OFFSETS, *NAMES, *(view.name for view in VIEWS)]


class PostgresWarehouse:
    """`tables` are the tables by topic name. They and the views are created, and new columns are added, in `schema`,
    or in the first schema of the search path.

    Fencing is a comparison of offsets inside each transaction, without a lock and without state in the session. If the
    server is unavailable at first, or later, `open` connects again.
    """

    def __init__(self, url: str, tables: Mapping[str, Table], *, cluster_id: str, schema: str | None = None) -> None:
        self._url, self._tables, self._cluster_id, self._schema = url, tables, cluster_id, schema
        self._next: dict[TopicPartition, int] = {}
        self._connection: Connection[Any] | None = None
        with suppress(Unavailable):
            self._connect()

    def open(self, assigned: Collection[TopicPartition]) -> dict[TopicPartition, int]:
        held = set(assigned)
        self._next = {}
        if self._connection is None:
            self._connect()
        with self._transaction() as connection:
            stored = connection.execute(
                "select cluster_id, topic, partition, next_offset from kafka_offsets"
            ).fetchall()
        for cluster, topic, partition, offset in stored:
            if TopicPartition(topic, partition) not in held:
                continue
            if cluster != self._cluster_id:
                raise Unusable(
                    f"the warehouse was filled from Kafka cluster {cluster}, but this is {self._cluster_id}:"
                    " offsets do not carry over. Point LEADSTREAM_WAREHOUSE at a new database and let it fill."
                )
            self._next[TopicPartition(topic, partition)] = offset
        return dict(self._next)

    def write(self, rows: Mapping[str, Sequence[Row]], offsets: Mapping[TopicPartition, int]) -> None:
        ends = {place: max(offset, self._next.get(place, 0)) for place, offset in offsets.items()}
        with self._transaction() as connection:
            self._move_offsets(connection, ends)
            for topic, of_topic in rows.items():
                fresh = [row for row in of_topic if row["_offset"] >= self._next.get(partition_of(row), 0)]
                _keep(connection, self._tables[topic], fresh)
        self._next.update(ends)

    def forget(self, removals: Sequence[Removal]) -> None:
        with self._transaction() as connection:
            for removal in removals:
                match removal:
                    case KeyForgotten():
                        _forget_key(connection, removal)
                    case PersonForgotten():
                        _forget_person(connection, removal)

    def tidy(self) -> None:
        """Nothing to do: PostgreSQL vacuums by itself."""

    def fold(self) -> None:
        """Nothing to do: `write` upserts the current tables."""

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()

    def _connect(self) -> None:
        with ExitStack() as on_fault:
            self._connection = connection = connected(self._url, autocommit=True)
            on_fault.callback(self._disconnect)
            with self._transaction():
                connection.execute("select pg_advisory_xact_lock(%s)", (_MIGRATION_LOCK,))
                _migrate(connection, self._tables)
            on_fault.pop_all()

    def _disconnect(self) -> None:
        self.close()
        self._connection = None

    @contextmanager
    def _transaction(self) -> Iterator[Connection[Any]]:
        """Raises `Unusable`, or `Unavailable` after closing the connection."""
        if self._connection is None:
            raise Unavailable("PostgreSQL is not connected")
        try:
            with faults_in_one_line(), self._connection.transaction():
                if self._schema is not None:
                    self._connection.execute(
                        sql.SQL("set local search_path to {}").format(sql.Identifier(self._schema))
                    )
                yield self._connection
        except Unavailable:
            self._disconnect()
            raise

    def _move_offsets(self, connection: Connection[Any], ends: Mapping[TopicPartition, int]) -> None:
        for partition, end in ends.items():
            place = (self._cluster_id, partition.topic, partition.partition)
            if partition in self._next:
                moved = connection.execute(
                    "update kafka_offsets set next_offset = %s, written_at = now()"
                    " where cluster_id = %s and topic = %s and partition = %s and next_offset = %s",
                    (end, *place, self._next[partition]),
                )
            else:
                moved = connection.execute(
                    "insert into kafka_offsets (cluster_id, topic, partition, next_offset) values (%s, %s, %s, %s)"
                    " on conflict (topic, partition) do nothing",
                    (*place, end),
                )
            if moved.rowcount != 1:
                raise Fenced


def _forget_key(connection: Connection[Any], removal: KeyForgotten) -> None:
    current = removal.table.current
    assert current is not None, "only compacted topics have tombstones"
    for table in (removal.table.events, current.name):
        connection.execute(
            sql.SQL("delete from {} where {} = %s").format(sql.Identifier(table), sql.Identifier(current.key)),
            (_scalar(removal.key),),
        )


def _forget_person(connection: Connection[Any], removal: PersonForgotten) -> None:
    connection.execute(
        sql.SQL("delete from {} where page_id = %s and psid = %s and received_at <= %s").format(
            sql.Identifier(MESSAGE_TABLE.events)
        ),
        (_scalar(removal.page_id), _scalar(removal.psid), removal.until),
    )
    connection.execute(
        sql.SQL(
            "delete from {} where refused_at <= %(until)s"
            " and (position(%(psid)s in key) > 0 or position(%(psid)s in value) > 0)"
        ).format(sql.Identifier(DEAD_LETTER_TABLE.events)),
        {"psid": removal.psid.encode(), "until": removal.refused_until},
    )


def _keep(connection: Connection[Any], table: Table, rows: Sequence[Row]) -> None:
    columns = table.schema.names
    names = sql.SQL(", ").join(map(sql.Identifier, columns))
    stage, events = sql.Identifier(f"new_{table.events}"), sql.Identifier(table.events)
    parts = {"stage": stage, "events": events, "names": names}
    connection.execute(sql.SQL("create temporary table {stage} (like {events})").format(**parts))
    with connection.cursor() as cursor:
        with cursor.copy(sql.SQL("copy {stage} ({names}) from stdin").format(**parts)) as copy:
            values = [(field.name, _scalar if field.type in _SCALARS else _json) for field in table.schema]
            for row in rows:
                copy.write_row([value(row.get(name)) for name, value in values])
        cursor.execute(
            sql.SQL("insert into {events} ({names}) select {names} from {stage} on conflict do nothing").format(**parts)
        )
        if table.current is not None:
            cursor.execute(_upsert(table.current, columns, parts))
        # The dead letters of another topic may come next, into the same table.
        cursor.execute(sql.SQL("drop table {stage}").format(**parts))


def _upsert(current: Current, columns: Sequence[str], parts: Mapping[str, sql.Composable]) -> sql.Composed:
    replaced = [
        sql.SQL("{0} = excluded.{0}").format(sql.Identifier(column)) for column in columns if column != current.key
    ]
    return sql.SQL(
        "insert into {current} as held ({names})"
        " select distinct on ({key}) {names} from {stage} order by {key}, {by} desc, _offset desc"
        " on conflict ({key}) do update set {replaced} where excluded.{by} > held.{by}"
    ).format(
        current=sql.Identifier(current.name),
        key=sql.Identifier(current.key),
        by=sql.Identifier(current.newest_by),
        replaced=sql.SQL(", ").join(replaced),
        **parts,
    )


def _scalar(value: Any) -> Any:
    # PostgreSQL stores no NUL, which a person's text may contain.
    return value.replace("\0", "\ufffd") if isinstance(value, str) else value


def _json(value: Any) -> Any:
    return None if value is None else Jsonb(without_nul(value))


def without_nul(value: Any) -> Any:
    """The value as PostgreSQL stores it, with what it consists of."""
    if isinstance(value, dict):
        return {name: without_nul(part) for name, part in value.items()}
    if isinstance(value, list):
        return [without_nul(part) for part in value]
    return _scalar(value)


def _migrate(connection: Connection[Any], tables: Mapping[str, Table]) -> None:
    connection.execute(
        "create table if not exists kafka_offsets (cluster_id text not null, topic text not null,"
        " partition bigint not null, next_offset bigint not null, written_at timestamptz not null default now(),"
        " primary key (topic, partition))"
    )
    require_no_table_dropped(connection, tables)
    for table in dict.fromkeys(tables.values()):
        _migrate_table(connection, table.events, table.schema, PROVENANCE)
        if table.current is not None:
            _migrate_table(connection, table.current.name, table.schema, (table.current.key,))
    for name, select in view_queries(POSTGRES).items():
        connection.execute(f"create or replace view {name} as {select}".encode())
    if connection.execute("select from pg_roles where rolname = %s", (READER,)).fetchone() is not None:
        shown = [name for name in relations() if name not in (_OFFSETS, DEAD_LETTER_TABLE.events)]
        granted = sql.SQL(", ").join(map(sql.Identifier, shown))
        connection.execute(sql.SQL("grant select on {} to {}").format(granted, sql.Identifier(READER)))


def require_no_table_dropped(connection: Connection[Any], tables: Mapping[str, Table]) -> None:
    """Raises `Unusable` for a dropped table, which would stay empty up to the stored offsets of its topics."""
    if not _is_there(connection, _OFFSETS):
        return
    filled = {topic for (topic,) in connection.execute("select distinct topic from kafka_offsets").fetchall()}
    for table in dict.fromkeys(tables.values()):
        written = sorted(topic for topic in tables if tables[topic] is table and topic in filled)
        for name in table.names if written else ():
            if not _is_there(connection, name):
                raise Unusable(
                    f"table {name} is not there, but kafka_offsets has {', '.join(written)} as written: restore it,"
                    " or point LEADSTREAM_WAREHOUSE at a new database and let it fill."
                )


def _is_there(connection: Connection[Any], name: str) -> bool:
    return connection.execute("select to_regclass(%s)", (name,)).fetchone() != (None,)


def _migrate_table(connection: Connection[Any], name: str, schema: pa.Schema, key: Sequence[str]) -> None:
    columns = {field.name: _SCALARS.get(field.type, "jsonb") for field in schema}
    defined = [sql.SQL("{} {}").format(sql.Identifier(column), sql.SQL(kind)) for column, kind in columns.items()]
    connection.execute(
        sql.SQL("create table if not exists {} ({}, primary key ({}))").format(
            sql.Identifier(name), sql.SQL(", ").join(defined), sql.SQL(", ").join(map(sql.Identifier, key))
        )
    )
    there = connection.execute(
        "select column_name from information_schema.columns where table_schema = current_schema() and table_name = %s",
        (name,),
    ).fetchall()
    for column in [name for name in columns if (name,) not in there]:
        connection.execute(
            sql.SQL("alter table {} add column {} {}").format(
                sql.Identifier(name), sql.Identifier(column), sql.SQL(columns[column])
            )
        )
