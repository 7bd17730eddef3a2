"""A connection to the warehouse's PostgreSQL, whose faults are told in one line and without the password."""

from typing import Any

import psycopg
from psycopg import Connection
from psycopg.conninfo import conninfo_to_dict

from sinks.consume import Unusable

_NO_ADDRESS = (
    "LEADSTREAM_WAREHOUSE is no address of PostgreSQL: in its password write @ / : ? # % as %40 %2F %3A %3F %23 %25"
)


def is_server(warehouse: str) -> bool:
    return warehouse.startswith(("postgresql://", "postgres://"))


def connected(url: str, **options: Any) -> Connection[Any]:
    """Raises `Unusable` where there is no way in."""
    try:
        parts = conninfo_to_dict(url)
    except psycopg.Error:
        # What libpq says of an address quotes it.
        raise Unusable(_NO_ADDRESS) from None
    # A password with one of these ends up in what follows it.
    if any("@" in str(parts.get(one, "")) for one in ("host", "port", "dbname")):
        raise Unusable(_NO_ADDRESS)
    try:
        return psycopg.connect(url, **options)
    except psycopg.Error as fault:
        raise Unusable(f"PostgreSQL does not let us in: {told(fault)}") from None


def told(fault: psycopg.Error) -> str:
    """What went wrong in one line, without the values of any row."""
    return fault.diag.message_primary or " ".join(str(fault).split())
