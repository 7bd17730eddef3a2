"""A connection to the warehouse's PostgreSQL.

A session keeps no state between transactions, so that PgBouncer may give each another connection: no prepared
statements, no SET but SET LOCAL, no temporary table that outlives its transaction, no startup `options`.
"""

from typing import Any

import psycopg
from psycopg import Connection
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from runtime.setting_values import LAST_PORT
from sinks.consume import Unavailable, Unusable
from sinks.warehouse.postgres.faults import fault_of

_NO_ADDRESS = (
    "LEADSTREAM_WAREHOUSE is no address of PostgreSQL: check its host, port and parameters; in its password write"
    " @ / : ? # % and blanks as %40 %2F %3A %3F %23 %25 %20"
)
# Without these a server that vanishes holds a writer for a quarter of an hour.
_DEFAULTS = {
    "connect_timeout": "10",
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "3",
    "tcp_user_timeout": "30000",
    "application_name": "leadstream",
}


def is_server(warehouse: str) -> bool:
    return warehouse.startswith(("postgresql://", "postgres://"))


def connected(url: str, *, autocommit: bool = False) -> Connection[Any]:
    """Raises `Unavailable` where a later try may succeed, and `Unusable` for a bad address, a refusal or no UTF-8."""
    try:
        parameters = conninfo_to_dict(url)
    except (psycopg.Error, ValueError):
        # libpq's message quotes the address.
        raise Unusable(_NO_ADDRESS) from None
    # A password with an unescaped character is parsed as part of the host, port or database.
    if any("@" in str(parameters.get(part, "")) for part in ("host", "port", "dbname")):
        raise Unusable(_NO_ADDRESS)
    # PGCLIENTENCODING must not decide how names and texts come back.
    defaults = {name: value for name, value in _DEFAULTS.items() if name not in parameters}
    try:
        conninfo = make_conninfo(url, client_encoding="UTF8", **defaults)
        connection = psycopg.connect(conninfo, autocommit=autocommit, prepare_threshold=None)
    except psycopg.Error as fault:
        reason = fault_of(fault)
        # Such a port is taken for the name of a service, and fails as if the server were away.
        if isinstance(reason, Unavailable) and not all(map(_is_port, str(parameters.get("port", "")).split(","))):
            raise Unusable(_NO_ADDRESS) from None
        raise reason from None
    except ValueError:
        # A host that is no name at all, as a..b
        raise Unusable(_NO_ADDRESS) from None
    _require_utf8(connection)
    return connection


def _is_port(text: str) -> bool:
    return not text or (text.isascii() and text.isdigit() and 0 < int(text[:6]) <= LAST_PORT)


def _require_utf8(connection: Connection[Any]) -> None:
    encoding = connection.info.parameter_status("server_encoding")
    if encoding != "UTF8":
        connection.close()
        raise Unusable(
            f"the database of LEADSTREAM_WAREHOUSE has the encoding {encoding}, which does not hold every text: make"
            " one with `create database NAME encoding 'UTF8' template template0`, and name it in the URL"
        )
