"""An error of PostgreSQL or its driver as one line, and whether it may pass by itself.

SQLSTATE decides. A connection that fails has none: libpq gives its text only, which is matched here.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

from sinks.consume import Unavailable, Unusable
from sinks.warehouse.rows import RowRefused

_LONGEST = 500
_SETTING = "LEADSTREAM_WAREHOUSE"
_GRANTS = "docs/warehouse.md lists what the role needs"
_PASSWORD = f"check the user and the password in {_SETTING}, PGPASSWORD or PGPASSFILE; in a URL write % as %25"
_NO_PASSWORD = f"put one in {_SETTING}, PGPASSWORD, or a PGPASSFILE that only its owner can read (mode 0600)"
_CERTIFICATE = "sslrootcert must name the file of the CA that signed the server's certificate"
_POOL_MODE = "set pool_mode to transaction or session in PgBouncer"

# Refusals that no later try mends, in the words of libpq, the server and PgBouncer, with their remedies.
_REFUSED_CONNECTIONS = (
    (r"password authentication failed|no such user|auth failed", _PASSWORD),
    (r"no password supplied|empty password", _NO_PASSWORD),
    (r'role ".*" (does not exist|is not permitted)', f"create the role, or change the user in {_SETTING}"),
    (r'database ".*" does not exist|no such database', f"create it, or change its name in {_SETTING}"),
    (r"pg_hba\.conf", "pg_hba.conf must allow this host, user and database, and may ask for sslmode=require"),
    (r"does not match host name", f"the host in {_SETTING} must be a name in the server's certificate"),
    (
        r"certificate required|alert (bad|unknown|cert)|client certificate",
        "sslcert and sslkey must name a client certificate it trusts",
    ),
    (r"certificate verify failed|root certificate", _CERTIFICATE),
    (r"certificate|private key", f"check sslcert and sslkey in {_SETTING}"),
    (r"does not support SSL", f"turn on TLS there, or change sslmode in {_SETTING}"),
    (r"unsupported startup parameter", "PgBouncer passes no `options` on: use `alter role … set …` instead"),
    (r"permission denied", _GRANTS),
    (r"connection is bad: (invalid|missing)", f"check the parameters in {_SETTING}"),
)
# https://www.postgresql.org/docs/current/errcodes-appendix.html: connection, rollback, resources, operator, system.
_PASSING_CLASSES = ("08", "40", "53", "57", "58")
# Values, constraints, and limits such as the length of an indexed key.
_ROW_CLASSES = ("22", "23", "54")
_PASSING = frozenset({"25006", "25P03", "55P03"})
_MENDS = {
    "25006": "the server is a standby or read only: a URL with all hosts and target_session_attrs=read-write finds the"
    " one that takes writes",
    "3F000": "create the schema that search_path names",
    "42501": _GRANTS,
    "42P01": "a sink makes its tables at its start; where one was dropped, restore it, or let a new database fill",
    "53100": "free disk space on the server",
}


@contextmanager
def faults_in_one_line() -> Iterator[None]:
    """Raises `Unavailable` or `Unusable` for an error of the driver."""
    try:
        yield
    except psycopg.Error as fault:
        raise fault_of(fault) from None


def fault_of(fault: psycopg.Error) -> Unusable:
    """`Unavailable` for a fault that may pass by itself, `RowRefused` for a row, `Unusable` for the operator's part.

    The line has neither values of rows nor a password.
    """
    state = fault.sqlstate
    if state is None and isinstance(fault, psycopg.OperationalError | psycopg.InterfaceError):
        return _without_state(fault)
    if state is None or state.startswith(_ROW_CLASSES):
        # The message about a malformed value quotes it.
        said = type(fault).__name__ if state is None or state.startswith("22") else summary(fault)
        return RowRefused(_line("PostgreSQL refuses a row", said, None))
    if "statement pooling" in (fault.diag.message_primary or ""):
        return Unusable(_line("PostgreSQL cannot be used", summary(fault), _POOL_MODE))
    if state.startswith(_PASSING_CLASSES) or state in _PASSING:
        return Unavailable(_line("PostgreSQL cannot answer now", summary(fault), _MENDS.get(state)))
    return Unusable(_line("PostgreSQL refuses", summary(fault), _MENDS.get(state)))


def summary(fault: psycopg.Error) -> str:
    """The error in one line, without the values of any row."""
    return _plain(fault.diag.message_primary or str(fault))


def _without_state(fault: psycopg.Error) -> Unusable:
    # With several hosts the text has the last failure, and then all of them.
    text = str(fault).partition("\nMultiple connection attempts failed")[0]
    # Tried with TLS and then without, a refusal comes twice.
    said = _plain(" ".join(dict.fromkeys(part.strip() for part in text.splitlines())))
    for pattern, mend in _REFUSED_CONNECTIONS:
        if re.search(pattern, said):
            return Unusable(_line("PostgreSQL refuses the connection", said, mend))
    return Unavailable(_line("PostgreSQL does not answer", said, None))


def _plain(text: str) -> str:
    short = " ".join(text.split())[:_LONGEST]
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in short)


def _line(what: str, said: str, mend: str | None) -> str:
    said = said.removeprefix("connection failed: ")
    return f"{what}: {said}; {mend}" if mend else f"{what}: {said}"
