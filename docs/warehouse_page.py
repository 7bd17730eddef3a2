"""docs/warehouse.md: every table and view with its columns, and how to get at them."""

from collections.abc import Iterator

from docs.markdown import table
from sinks.warehouse.postgres.warehouse import READER
from sinks.warehouse.query import types_of
from sinks.warehouse.tables import TABLES, Table
from sinks.warehouse.views import VIEWS, View

_INTRODUCTION = f"""\
# The warehouse

Made by `make docs` from `sinks/warehouse/tables.py` and `sinks/warehouse/views.py`; do not edit.

`leadstream sink warehouse` keeps it at `LEADSTREAM_WAREHOUSE`: a directory or the URI of an object store for Delta
tables, `postgresql://…` for a server. Names, columns and values are the same in both. A batch of rows and the Kafka
offsets it came from are one commit, so that each Kafka record is there once, also after a crash, and a process that
was paused cannot write what another has written. Group offsets in Kafka only tell lag tools how far it is.

## Connect

* `leadstream warehouse sql "select …"` answers from either, while the sink writes or not, and writes nothing.
  A superuser's URL asks as `pg_read_all_data`: a guard against mistakes, not against the superuser.
  `leadstream warehouse export` makes a file of a table or view, as its name ends: `.csv`, `.jsonl`, or `.parquet`
  with the types below (views too), and with masks for what is personal if asked. CSV is for spreadsheets: text that
  one would run as a formula, also behind a semicolon or in a new line, has an apostrophe in front, and a file begins
  with the mark that shows Excel UTF-8. A spreadsheet keeps fifteen digits of a number, and a PSID has more:
  `--cells text-ids` puts the apostrophe before these too. Programs take `--cells raw`, or better JSON lines or Parquet.
* A BI tool connects to PostgreSQL. `create role {READER} nologin` and `grant {READER} to …` once; from its
  next start the sink lets that role read all tables and views but `dead_letter_records`.
* Spark, Trino, Databricks, DuckDB and Polars read the Delta tables where they lie. There the views are not; what a
  current table (`leads`) lacks of its events is at most 20 commits old, and merged when the sink is idle for three
  seconds. A reader keeps the files it began with for 24 hours.
* [dbt](../examples/dbt/README.md) builds on the views: a project with six models and their tests, to start from.

A warehouse belongs to one Kafka cluster. When retention took records that the warehouse has not read, the sink stops
and says how to go on without them: `leadstream sink warehouse --accept-loss messenger-events:3:41`. When a topic was
made anew or lost its end, offsets come again, and the warehouse keeps one row for each: point `LEADSTREAM_WAREHOUSE` at
a new place and let it fill. `leadstream warehouse status` says how far it is behind. `leadstream warehouse rebuild`
fills a second one from Kafka, a directory or a schema of the same database, compares, and with `--swap` puts it in the
place of the old one.

A warehouse that is filled later has what Kafka still has. Compaction leaves the newest step of each follow-up, so
that there `followed_up_at` can be as late as `read_at`; messages are kept for 30 days, so that older replies are
missing.

Files are read as they are: a table to which another program gave deletion vectors or column mapping is refused. The
path of a Delta warehouse may hold anything but brackets, backslashes, and a % before two digits.

New nullable fields of a record become columns by themselves, at the end of a table. PostgreSQL then refuses a statement
`select * from leads` that a client had prepared before (`cached plan must not change result type`): name the columns,
ask a view, or connect again. A change that old readers cannot read goes to a new topic version and to new tables.

## An analyst's five questions

After `make demo` the warehouse of its campaign stays in `.leadstream/demo/warehouse`. You can query it while a sink
writes:

```sh
LEADSTREAM_WAREHOUSE=.leadstream/demo/warehouse .venv/bin/leadstream warehouse sql "…"
```

A query of an embedded warehouse takes a quarter of the machine's memory at most. The rest goes to `queries` in
`LEADSTREAM_STATE_DIR`, if that exists, and is removed when the query has ended.

1. How far do leads get, Page by Page? (Meta tells nobody who only clicked.)

   ```sql
   select page_id, sum(leads) as leads, sum(complete) as complete, sum(answered) as answered,
          sum(followed_up) as followed_up, sum(read) as read, sum(replied) as replied
   from lead_funnel group by page_id order by leads desc
   ```

2. Which ad brings complete leads?

   ```sql
   select ad_id, ad_title, sum(leads) as leads, round(100.0 * sum(complete) / sum(leads), 1) as percent_complete
   from lead_funnel group by ad_id, ad_title order by percent_complete desc, leads desc
   ```

3. What do people answer?

   ```sql
   select question, answer, sum(leads) as leads
   from answer_counts group by question, answer order by question, leads desc
   ```

4. How soon after a lead is its first follow-up?

   ```sql
   select page_id, count(*) as followed_up,
          percentile_cont(0.5) within group (order by seconds_to_followup) as median_seconds
   from lead_journeys where followed_up_at is not null group by page_id
   ```

5. What became of follow-ups that were not sent, and why?

   ```sql
   select rule, status, reason, count(*) as commands
   from followup_outcomes where status not in ('sent', 'delivered', 'read') and rule <> 'opt-out'
   group by rule, status, reason order by commands desc
   ```

## PostgreSQL

Tested with version 15; `warehouse rebuild` needs 14. `leadstream doctor` checks what follows, and writes nothing.

**Encoding.** The database must be UTF8: `create database leads encoding 'UTF8' template template0`. Any other encoding
is refused at the start, for it loses texts. `PGCLIENTENCODING` has no effect.

**Role.** The sink makes its tables and views and adds columns, so its role owns them. It needs no superuser:

```sql
create role leadstream login password '…';
grant connect, temporary on database leads to leadstream;
create schema leadstream authorization leadstream;
alter role leadstream in database leads set search_path = leadstream;
```

Tables lie in the first schema of `search_path`; in `public` the role needs `grant create on schema public`. `warehouse
rebuild` makes a schema, for which the role needs `grant create on database`. A role that only asks (`warehouse sql`,
BI) needs the membership in `{READER}` and `usage` on the schema.

**Password.** In the URL, with `@ / : ? # %` and blanks written as `%40 %2F %3A %3F %23 %25 %20`; or in `PGPASSWORD`; or
in a file that `PGPASSFILE` names, with lines `host:port:database:user:password`. The driver ignores a file that others
can read: a secret of Docker must have mode 0400 or 0600.

**TLS.** `postgresql://leadstream@db.example.com/leads?sslmode=verify-full&sslrootcert=/etc/leadstream/ca.pem`, and
`&sslcert=…&sslkey=…` for a client certificate. `verify-full` checks the CA and the host name; `require` checks neither;
without `sslmode` TLS is used if the server offers it. The file of `sslkey` must be readable by its owner only.

**PgBouncer** may stand between in the pool modes `transaction` and `session`. The sink keeps nothing in a session: no
prepared statement, no `SET`, no lock, and a temporary table ends with its transaction. That one process writes a
partition is a comparison of stored offsets inside each transaction, so it needs no session either. `statement` mode is
refused in one line, and so are `options` in the URL, which PgBouncer does not pass on: use `alter role … set …`. While
the server is away PgBouncer holds a statement for its `query_wait_timeout`, 120 seconds unless set; only then does the
sink see it.

**When the server is away**, restarts, is a standby, has no disk space or no free connection, or a statement runs into
a timeout, the sink stays: `/readyz` is 503 with the reason, the log has `sink.waits`, and it tries again after 1, 2,
4 … 30 seconds, from the stored offsets. After a failover the driver finds the new primary by itself if the URL has all
hosts: `postgresql://leadstream@a.example.com,b.example.com/leads?target_session_attrs=read-write`. What no later try
mends (a wrong password, a missing right, a certificate, a dropped table) ends the sink with one line. A server that
does not answer is given up after 10 seconds when connecting (`connect_timeout` in the URL) and after 30 later
(`tcp_user_timeout`, in milliseconds).
"""


def warehouse_page() -> str:
    tables = [part for stored in TABLES for part in _table(stored)]
    views = [part for view in VIEWS for part in _view(view)]
    return "\n".join([_INTRODUCTION, "## Tables\n", *tables, "## Views\n", *views]).rstrip() + "\n"


def _table(stored: Table) -> Iterator[str]:
    yield f"### `{stored.events}`\n\n{stored.means}\n"
    if stored.current is not None:
        yield f"`{stored.current.name}` has the same columns and one row for each `{stored.current.key}`: the newest.\n"
    yield table(("Column", "Type"), ((f"`{field.name}`", str(field.type)) for field in stored.schema)) + "\n"


def _view(view: View) -> Iterator[str]:
    columns = types_of(view.name)
    yield f"### `{view.name}`\n\n{view.means}\n\n{', '.join(f'`{column}`' for column in columns)}\n"
