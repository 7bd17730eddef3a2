"""An embedded warehouse with any number of made leads, written at once as the sink would have left it."""

import duckdb
import pyarrow as pa
from aiokafka import TopicPartition
from deltalake import CommitProperties, Transaction, write_deltalake

from sinks.warehouse.delta.files import application, table_uri
from sinks.warehouse.delta.warehouse import DeltaWarehouse
from sinks.warehouse.tables import LEAD_TABLE, MESSAGE_TABLE, OUTCOME_TABLE, Table, tables_by_topic

CLUSTER = "made"
_AT_ONCE = 250_000
# A lead every so many seconds, the newest a minute old; of eight Pages, the first has half of the leads.
_LEADS = """
    select range as n, format('{:08x}-0000-5000-8000-000000000000', range) as lead_id,
           (54299852610363 + if(range % 2 = 0, 0, range % 8))::varchar as page_id,
           (7000000000000000 + range)::varchar as psid,
           now() - interval 1 minute - to_seconds(range * 30) as seen_at
    from range($first, $last)
"""
_ROWS = {
    LEAD_TABLE: """
        select lead_id, 1::bigint as revision, page_id, psid, if(n % 5 = 0, 'incomplete', 'complete') as outcome,
               if(n % 5 < 4, [struct_pack(question := 'City?', answer := 'Menlo Park')], []) as answers,
               if(n % 5 < 4, 'summary', 'none') as answers_source,
               struct_pack(ad_id := (120200 + n % 12)::varchar, ad_title := 'Spring ' || (n % 12)) as ad,
               seen_at as first_seen_at, seen_at + interval 4 second as updated_at, true as closed,
               seen_at + interval 24 hour as messaging_window_closes_at
        from made
    """,
    OUTCOME_TABLE: """
        select 'c' || n as command_id, lead_id, page_id, psid, 'thanks' as rule, 1::bigint as step,
               ['read', 'delivered', 'sent', 'rejected', 'cancelled', 'in_doubt'][1 + (n % 10 // 2 + n % 97 // 96)::int]
                   as status,
               [null, null, null, 'window_closed', 'reply', 'no_clear_answer'][1 + (n % 10 // 2 + n % 97 // 96)::int]
                   as reason,
               1::bigint as attempt, seen_at + to_seconds(5 + n % 600) as occurred_at
        from made
    """,
    MESSAGE_TABLE: """
        select 'message_received' as kind, 'm' || n as event_id, page_id, psid, seen_at + interval 1 hour as event_at,
               seen_at + interval 1 hour as received_at
        from made where n % 4 = 0
    """,
}


def make_warehouse(url: str, leads: int) -> None:
    """Fill a warehouse that does not exist yet."""
    tables = tables_by_topic(str)
    DeltaWarehouse(url, tables, cluster_id=CLUSTER).close()
    with duckdb.connect(":memory:") as connection:
        for first in range(0, leads, _AT_ONCE):
            connection.execute(
                f"create or replace temp table made as {_LEADS}",
                {"first": first, "last": min(leads, first + _AT_ONCE)},
            )
            for table, query in _ROWS.items():
                _append(url, table, _whole(connection.sql(query).to_arrow_table(), table.schema, first), leads)


def _whole(rows: pa.Table, schema: pa.Schema, first: int) -> pa.Table:
    """The rows with every column of the table, as records of one partition."""
    count = len(rows)
    given = {name: rows[name] for name in rows.column_names}
    given["_offset"] = pa.array(range(first, first + count))
    given["_partition"] = pa.array([0] * count)
    given["_topic"] = pa.array(["made"] * count)
    return pa.table(
        [
            given[field.name].cast(field.type) if field.name in given else pa.nulls(count, field.type)
            for field in schema
        ],
        schema=schema,
    )


def _append(url: str, table: Table, rows: pa.Table, end: int) -> None:
    done = Transaction(application(CLUSTER, TopicPartition("made", 0)), end)
    for name in table.names:
        write_deltalake(
            table_uri(url, name), rows, mode="append", commit_properties=CommitProperties(app_transactions=[done])
        )
