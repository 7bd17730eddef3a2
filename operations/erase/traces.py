"""The places that still hold data of a person, in topics, files and the warehouse: places and counts, no content."""

import json
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from psycopg import Connection, sql

from operations.deployment import Deployment
from runtime.settings import Settings
from runtime.topic_admin import topic_names
from runtime.topic_reading import records_now
from schemas.topics import TOPICS
from sinks.warehouse.delta.files import local_path
from sinks.warehouse.postgres.connection import connected, is_server
from sinks.warehouse.postgres.faults import faults_in_one_line
from sinks.warehouse.tables import TABLES

_REPLAY = "-replay-"
_CLIENT = "leadstream-traces"
_KAFKA_DATA = ("kafka", "data")
_LEAVES = (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary, pa.types.is_large_binary)


@dataclass(frozen=True, slots=True)
class Trace:
    """A topic, a file or a table, and how many matches it has: records, rows, or values of a file."""

    kind: str
    place: str
    count: int


def needles(texts: Collection[str]) -> tuple[bytes, ...]:
    """The bytes that these texts can be: plain, and escaped as JSON may have them."""
    forms: set[bytes] = set()
    for text in texts:
        escaped = json.dumps(text)[1:-1]
        forms |= {text.encode(), escaped.encode(), escaped.replace("/", "\\/").encode()}
    return tuple(sorted(forms))


async def our_topics(deployment: Deployment) -> list[str]:
    """Every topic of ours on the cluster, those of replays included."""
    settings = deployment.settings
    live = {settings.topic(topic.name) for topic in TOPICS}
    replayed = (f"{settings.topic(topic.name)}{_REPLAY}" for topic in TOPICS)
    ours = (settings.topic("leadstream-"), *replayed)
    return [name for name in await topic_names(deployment.broker) if name in live or name.startswith(ours)]


def replay_of(settings: Settings, topic: str) -> str | None:
    """The replay that a topic belongs to, None for a live one."""
    for known in TOPICS:
        live = f"{settings.topic(known.name)}{_REPLAY}"
        if topic.startswith(live):
            return topic.removeprefix(live)
    return None


async def in_topics(deployment: Deployment, wanted: Sequence[bytes], on_read: Callable[[int], None]) -> list[Trace]:
    """Topics with a wanted text in a key, a value or a header of a record that a reader can still read."""
    counts: Counter[str] = Counter()
    async for record in records_now(deployment.broker, await our_topics(deployment), client_id=_CLIENT):
        on_read(1)
        parts = [record.key, record.value, *(value for _, value in record.headers)]
        if any(text in part for part in parts if part for text in wanted):
            counts[record.topic] += 1
    return [Trace("topic", topic, count) for topic, count in sorted(counts.items())]


def in_files(settings: Settings, wanted: Sequence[bytes], on_read: Callable[[int], None]) -> list[Trace]:
    """Files of the state directory, the spool and a warehouse in a directory; Kafka's own are read as topics."""
    traces = []
    for path in sorted(_files(settings)):
        on_read(1)
        if count := _count(path, wanted):
            traces.append(Trace("file", str(path), count))
    return traces


def _files(settings: Settings) -> Iterator[Path]:
    roots = [settings.state_dir, *filter(None, [settings.spool_dir])]
    if not is_server(settings.warehouse) and (warehouse := local_path(settings.warehouse)) is not None:
        # With the directories that `warehouse rebuild` left beside it.
        roots += [warehouse, *warehouse.parent.glob(f"{warehouse.name}.*")]
    seen: set[Path] = set()
    for root in roots:
        for path in [root] if root.is_file() else root.rglob("*"):
            inside = path.relative_to(root).parts[:2] == _KAFKA_DATA
            if path.is_file() and not inside and path.resolve() not in seen:
                seen.add(path.resolve())
                yield path


def _count(path: Path, wanted: Sequence[bytes]) -> int:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return 0  # a spool file that was drained, a file that was vacuumed
    plain = sum(content.count(text) for text in wanted)
    return plain or (_count_in_parquet(path, wanted) if path.suffix == ".parquet" else 0)


def _count_in_parquet(path: Path, wanted: Sequence[bytes]) -> int:
    """Parquet compresses its pages, so that its bytes do not show their content."""
    try:
        table = pq.read_table(path, partitioning=None)
    except (pa.ArrowInvalid, OSError):
        return 0
    leaves = [leaf for column in table.columns for chunk in column.chunks for leaf in _leaves(chunk)]
    return sum(pc.sum(pc.match_substring(leaf, text)).as_py() or 0 for leaf in leaves for text in wanted)


def _leaves(array: Any) -> Iterator[Any]:
    if pa.types.is_struct(array.type):
        for child in array.flatten():
            yield from _leaves(child)
    elif pa.types.is_map(array.type):
        yield from _leaves(array.keys)
        yield from _leaves(array.items)
    elif pa.types.is_list(array.type) or pa.types.is_large_list(array.type):
        yield from _leaves(array.flatten())
    elif any(is_leaf(array.type) for is_leaf in _LEAVES):
        yield array


def in_server(settings: Settings, wanted: Sequence[bytes]) -> list[Trace]:
    """Tables of a PostgreSQL warehouse; [] for any other. Raises `Unusable`."""
    if not is_server(settings.warehouse):
        return []
    blobs = {
        name: [field.name for field in table.schema if pa.types.is_binary(field.type)]
        for table in TABLES
        for name in table.names
    }
    traces = []
    with faults_in_one_line(), connected(settings.warehouse) as connection:
        connection.read_only = True
        # In every schema, for `warehouse rebuild` leaves the old one beside the new.
        tables = connection.execute(
            "select table_schema, table_name from information_schema.tables"
            " where table_type = 'BASE TABLE' and table_name = any(%s) order by 1, 2",
            (list(blobs),),
        ).fetchall()
        for schema, name in tables:
            if count := _count_rows(connection, sql.Identifier(schema, name), blobs[name], wanted):
                traces.append(Trace("table", f"{schema}.{name}", count))
    return traces


def _count_rows(
    connection: Connection[Any], table: sql.Identifier, blobs: Sequence[str], wanted: Sequence[bytes]
) -> int:
    tests = [sql.SQL("position({} in held::text) > 0").format(text.decode()) for text in wanted]
    tests += [
        sql.SQL("position({} in held.{}) > 0").format(sql.Literal(text), sql.Identifier(blob))
        for text in wanted
        for blob in blobs
    ]
    query = sql.SQL("select count(*) from {} held where {}").format(table, sql.SQL(" or ").join(tests))
    [(count,)] = connection.execute(query).fetchall()
    return int(count)
