"""Check without a write whether a sink could write to this PostgreSQL now."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from psycopg import Connection

from runtime.loopback import is_loopback
from sinks.warehouse.postgres.connection import connected
from sinks.warehouse.postgres.faults import faults_in_one_line
from sinks.warehouse.postgres.warehouse import relations, require_no_table_dropped
from sinks.warehouse.tables import Table


@dataclass(frozen=True, slots=True)
class Readiness:
    """`lacks` names what a sink still needs, None for nothing; `tables` describes the state of the tables.

    `readable_at` is the host to which passwords and rows go unencrypted, None where no other host sees them.
    """

    lacks: str | None
    tables: str
    readable_at: str | None


def readiness_of(url: str, tables: Mapping[str, Table]) -> Readiness:
    """Raises `Unusable` where the server refuses the connection, or a table with stored offsets is missing."""
    with faults_in_one_line(), connected(url) as connection:
        lacks = _lacks(connection)
        if lacks is None:
            require_no_table_dropped(connection, tables)
        return Readiness(lacks, _tables(connection, tables), _readable_at(connection))


def _lacks(connection: Connection[Any]) -> str | None:
    [(schema, role, is_standby, is_read_only, may_create, may_stage)] = connection.execute(
        "select current_schema(), current_user, pg_is_in_recovery(),"
        " current_setting('default_transaction_read_only') = 'on',"
        " has_schema_privilege(current_schema(), 'create'), has_database_privilege(current_database(), 'temporary')"
    ).fetchall()
    foreign = connection.execute(
        "select relname from pg_class where relnamespace = quote_ident(current_schema())::regnamespace"
        " and relname = any(%s) and not pg_has_role(relowner, 'usage') order by 1",
        (relations(),),
    ).fetchall()
    faults = {
        "a server that takes writes: this one is a standby or read only": is_standby or is_read_only,
        "a schema that search_path names": schema is None,
        f"`grant create on schema {schema} to {role}`": not may_create,
        f"`grant temporary on database … to {role}`": not may_stage,
        f"to own {', '.join(name for (name,) in foreign)}": bool(foreign),
    }
    return next((needed for needed, is_missing in faults.items() if is_missing), None)


def _tables(connection: Connection[Any], tables: Mapping[str, Table]) -> str:
    columns = {(name, column) for table in tables.values() for name in table.names for column in table.schema.names}
    there = connection.execute(
        "select relname, attname from pg_attribute join pg_class on pg_class.oid = attrelid"
        " where relnamespace = quote_ident(current_schema())::regnamespace and attnum > 0 and not attisdropped"
        " and relname = any(%s)",
        (relations(),),
    ).fetchall()
    missing = columns - set(there)
    if missing == columns:
        return "no tables yet: the sink makes them at its start"
    if missing:
        return f"the sink adds {len(missing)} columns at its next start"
    return "tables as in this release"


def _readable_at(connection: Connection[Any]) -> str | None:
    host = connection.info.host
    is_safe = connection.pgconn.ssl_in_use or host.startswith("/") or is_loopback(host)
    return None if is_safe else host
