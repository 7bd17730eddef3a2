"""Somebody else's PostgreSQL: its encoding, its TLS, its passwords, PgBouncer before it, each way in which it fails."""

import asyncio
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import psycopg
import pytest
from click.testing import CliRunner

from cli.main import main
from docs.warehouse_page import warehouse_page
from operations.doctor.here import verdicts_here
from runtime.settings import Settings
from sinks.consume import Unavailable, Unusable
from sinks.warehouse.postgres.connection import connected
from sinks.warehouse.postgres.faults import faults_in_one_line
from sinks.warehouse.query import ask
from sinks.warehouse.status import status_of
from tests.certificates import Authority
from tests.integration.warehouses import Target, new_database, own_postgres, pgbouncer
from tests.warehouse_rows import lead_row, leads

_PASSWORD = "p@:/?#%&= é"
_ENCODED = "p%40%3A%2F%3F%23%25%26%3D%20%C3%A9"
_ACCESS = (
    "hostnossl secure all all reject",
    "hostssl certified all all cert",
    "host locked all all scram-sha-256",
    "host closed all all reject",
    "host all all all trust",
)


def _execute(url: str, *statements: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement.encode())


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def strict(authority: Authority) -> Iterator[str]:
    """A server with TLS, few connections, and a database for each way of letting somebody in."""
    settings = {"max_connections": "8", "superuser_reserved_connections": "3"}
    with own_postgres(settings, access=_ACCESS, tls=authority.issue("localhost", hosts=("localhost",))) as server:
        url = server.url
        _execute(
            url,
            f"create role locked login password '{_PASSWORD}'",
            "create role poor login",
            "create role barred nologin",
        )
        for name in ("secure", "certified", "locked", "closed"):
            new_database(url, name)
        _execute(url, "alter database locked owner to locked")
        yield url


def _line(url: str) -> str:
    """What a user sees of `warehouse sql`."""
    result = CliRunner().invoke(main, ["warehouse", "sql", "select 1 as one"], env={"LEADSTREAM_WAREHOUSE": url})
    assert result.exit_code == 1, result.output
    assert len(result.output.splitlines()) == 1, result.output
    return result.output


def _at(server: str, database: str, **given: object) -> str:
    """`given` are `user`, `host` and parameters of the URL."""
    port = server.rsplit(":", 1)[1].split("/")[0]
    parameters = {"user": "leadstream", "host": "127.0.0.1", **given}
    user, host = parameters.pop("user"), parameters.pop("host")
    query = "&".join(f"{name}={value}" for name, value in parameters.items())
    return f"postgresql://{user}@{host}:{port}/{database}?{query}"


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
@pytest.mark.parametrize("use", [lambda url: Target(url).open(), lambda url: status_of(url, [])])
def test_a_database_that_does_not_hold_every_text_is_refused(
    postgres: str, encoding: str, use: Callable[[str], object]
) -> None:
    url = new_database(postgres, f"not_utf8_{encoding}_{os.urandom(4).hex()}", encoding)

    with pytest.raises(Unusable, match=f"has the encoding {encoding}, .*encoding 'UTF8' template template0") as told:
        use(url)

    assert not isinstance(told.value, Unavailable)
    with psycopg.connect(url) as connection:
        assert connection.execute("select from pg_tables where tablename = 'leads'").fetchone() is None


def test_texts_do_not_depend_on_the_encoding_of_our_environment(
    postgres_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGCLIENTENCODING", "LATIN1")
    target = Target(postgres_database)
    writer = target.open()
    writer.open([leads(0)])

    writer.write({"leads": [{**lead_row(0, 0), "summary_text": "Zoë 😀"}]}, {leads(0): 1})
    writer.close()

    assert target.ask("select summary_text from leads") == [("Zoë 😀",)]


def test_tls_is_used_and_the_servers_certificate_verified(strict: str, authority: Authority) -> None:
    url = _at(strict, "secure", host="localhost", sslmode="verify-full", sslrootcert=authority.file)

    with connected(url) as connection:
        assert connection.pgconn.ssl_in_use


def test_a_client_certificate_is_shown(strict: str, authority: Authority) -> None:
    ours = authority.issue("leadstream")
    tls = {"sslmode": "verify-full", "sslrootcert": authority.file}

    answer = ask(
        _at(strict, "certified", host="localhost", sslcert=ours.cert, sslkey=ours.key, **tls), "select session_user"
    )

    assert answer.rows == (("leadstream",),)
    assert "client certificate" in _line(_at(strict, "certified", host="localhost", **tls))


def test_each_fault_of_tls_is_one_line(strict: str, postgres: str, authority: Authority, tmp_path: Path) -> None:
    other = Authority(tmp_path)
    verified = {"sslmode": "verify-full", "sslrootcert": authority.file}

    plain = _line(_at(strict, "secure", sslmode="disable"))
    unknown = _line(_at(strict, "secure", host="localhost", sslmode="verify-full", sslrootcert=other.file))
    missing = _line(_at(strict, "secure", host="localhost", sslmode="verify-full", sslrootcert=tmp_path / "none.crt"))
    misnamed = _line(_at(strict, "secure", **verified))
    without = _line(_at(postgres, "postgres", host="localhost", **verified))

    assert "no encryption; pg_hba.conf must allow" in plain
    assert "certificate verify failed; sslrootcert must name the file of the CA" in unknown
    assert "none.crt" in missing
    assert "sslrootcert must name" in missing
    assert "does not match host name" in misnamed
    assert "server does not support SSL, but SSL was required; turn on TLS there" in without


def test_a_password_comes_encoded_from_the_environment_or_from_a_file(
    strict: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare = _at(strict, "locked", user="locked")
    port = bare.split(":")[2].split("/")[0]
    escaped = _PASSWORD.replace("\\", "\\\\").replace(":", "\\:")
    file = tmp_path / "secret"
    file.write_text(f"127.0.0.1:{port}:locked:locked:{escaped}\n")
    file.chmod(0o600)

    assert ask(bare.replace("locked@", f"locked:{_ENCODED}@"), "select 1 as one").rows == ((1,),)
    with monkeypatch.context() as environment:
        environment.setenv("PGPASSWORD", _PASSWORD)
        assert ask(bare, "select 1 as one").rows == ((1,),)
    with monkeypatch.context() as environment:
        environment.setenv("PGPASSFILE", str(file))
        assert ask(bare, "select 1 as one").rows == ((1,),)
        file.chmod(0o644)
        assert "no password supplied; put one in LEADSTREAM_WAREHOUSE, PGPASSWORD, or a PGPASSFILE" in _line(bare)


@pytest.mark.parametrize("letter", ["@", "/", "%", " ", "%zz"])
def test_a_password_that_is_not_encoded_is_named_and_not_shown(strict: str, letter: str) -> None:
    url = _at(strict, "locked", user=f"locked:sec{letter}ret")

    line = _line(url)

    assert "@ / : ? # % and blanks as %40" in line
    assert "sec" not in line
    assert "ret" not in line


@pytest.mark.parametrize(
    ("address", "expected", "passes"),
    [
        ("leadstream@127.0.0.1:1/x", "does not answer: connection to server at .* failed: Connection refused", True),
        ("leadstream@no-such-host.invalid:{port}/x", "does not answer: failed to resolve host", True),
        ("leadstream@a..b:{port}/x", "is no address of PostgreSQL", False),
        ("leadstream@127.0.0.1:http/x", 'invalid integer value "http".*; check the parameters', False),
        ("leadstream@127.0.0.1:{port}/x?sslmode=sure", 'invalid sslmode value: "sure"; check the parameters', False),
        ("leadstream@127.0.0.1:{port}/x?ssl_mode=require", "check its host, port and parameters", False),
        ("leadstream@127.0.0.1:{port}/nowhere", 'database "nowhere" does not exist; create it', False),
        ("nobody@127.0.0.1:{port}/postgres", 'role "nobody" does not exist; create the role', False),
        ("barred@127.0.0.1:{port}/postgres", 'role "barred" is not permitted to log in; create the role', False),
        ("leadstream@127.0.0.1:{port}/closed", "pg_hba.conf rejects connection", False),
        ("locked:wrong@127.0.0.1:{port}/locked", "password authentication failed .*; check the user and", False),
    ],
)
def test_a_connection_that_fails_is_one_line_and_ends_a_sink_if_no_later_try_can_help(
    strict: str, address: str, expected: str, *, passes: bool
) -> None:
    port = strict.rsplit(":", 1)[1].split("/")[0]

    with pytest.raises(Unusable, match=expected) as told:
        connected(f"postgresql://{address.format(port=port)}")

    assert isinstance(told.value, Unavailable) is passes
    assert str(told.value).isprintable()


def test_a_server_without_a_free_connection_is_waited_for(strict: str) -> None:
    _execute(strict, "alter role poor connection limit 1")
    url = _at(strict, "postgres", user="poor")

    with connected(url), pytest.raises(Unavailable, match="too many connections for role"):
        connected(url)


def _terminate(url: str) -> None:
    _execute(
        url,
        "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database()"
        " and pid <> pg_backend_pid()",
    )


def _become_standby(url: str) -> None:
    _execute(url, f"alter database {url.rsplit('/', 1)[1]} set default_transaction_read_only = on")
    _terminate(url)


@pytest.mark.parametrize(
    ("hurt", "heal", "expected"),
    [
        (_terminate, None, "terminating connection due to administrator command"),
        (
            _become_standby,
            "alter database {} reset default_transaction_read_only",
            "in a read-only transaction; the server is a standby or read only: a URL with all hosts",
        ),
    ],
)
def test_what_passes_is_waited_for_and_written_then(
    postgres_database: str, hurt: Callable[[str], None], heal: str | None, expected: str
) -> None:
    target = Target(postgres_database)
    writer = target.open()
    writer.open([leads(0)])
    hurt(postgres_database)

    said = []
    for _ in range(2):
        try:
            writer.open([leads(0)])
            writer.write({"leads": [lead_row(0, 0)]}, {leads(0): 1})
        except Unavailable as fault:
            said.append(str(fault))
    if heal is not None:
        with psycopg.connect(postgres_database, autocommit=True) as connection:
            connection.execute("set default_transaction_read_only = off")
            connection.execute(heal.format(postgres_database.rsplit("/", 1)[1]).encode())

    assert any(expected in line for line in said), said
    writer.open([leads(0)])
    writer.write({"leads": [lead_row(0, 1)]}, {leads(0): 2})
    writer.close()
    assert target.ask("select count(*) from lead_events where _offset = 1") == [(1,)]


@pytest.mark.parametrize(
    ("statement", "expected", "passes"),
    [
        ("set local statement_timeout = '20ms'; select pg_sleep(1)", "canceling statement due to statement", True),
        ("set local lock_timeout = '20ms'; lock table held in share mode", "due to lock timeout", True),
        ("set local transaction_read_only = on; create table t (i int)", "read-only transaction", True),
        ("do $$ begin raise 'No space left on device' using errcode = '53100'; end $$", "; free disk space", True),
        ("do $$ begin raise 'shutting down' using errcode = '57P01'; end $$", "shutting down", True),
        ("do $$ begin raise 'idle' using errcode = '25P03'; end $$", "idle", True),
        ("select 'secret'::int", "PostgreSQL refuses a row: InvalidTextRepresentation", False),
        ("set local search_path = nowhere; create table t (i int)", "; create the schema that search_path", False),
        ("select from nowhere", 'relation "nowhere" does not exist; a sink makes its tables', False),
        (
            "insert into held values ('secret')",
            "refuses a row: new row for relation .* violates check",
            False,
        ),
    ],
)
def test_an_error_of_the_server_is_one_line_without_values(
    postgres_database: str, statement: str, expected: str, *, passes: bool
) -> None:
    _execute(postgres_database, "create table held (word text check (word = ''))")
    holder = psycopg.connect(postgres_database)
    holder.execute("lock table held in row exclusive mode")

    with pytest.raises(Unusable, match=expected) as told, faults_in_one_line(), connected(postgres_database) as one:
        one.execute(statement.encode())

    holder.close()
    assert isinstance(told.value, Unavailable) is passes
    assert "secret" not in str(told.value)
    assert str(told.value).isprintable()


def test_pgbouncer_in_transaction_mode_serves_questions_and_status(postgres_database: str) -> None:
    with pgbouncer(postgres_database) as url:
        target = Target(url)
        writer = target.open()
        writer.open([leads(0)])
        writer.write({"leads": [lead_row(0, 0)]}, {leads(0): 1})

        # Nothing of ours is left in the connections that others are lent.
        with psycopg.connect(postgres_database) as direct:
            left = direct.execute("select relname from pg_class where relpersistence = 't'").fetchall()
        assert target.ask("select lead_id from leads, generate_series(1, 20000)")[0] == ("l1",)
        assert target.ask("select current_setting('TimeZone')") == [("UTC",)]
        assert status_of(url, [leads(0)]).offsets == {leads(0): 1}
        writer.close()
    assert left == []


def test_pgbouncer_in_statement_mode_is_named(postgres_database: str) -> None:
    with (
        pgbouncer(postgres_database, pool_mode="statement") as url,
        pytest.raises(Unusable, match="set pool_mode to transaction or session in PgBouncer") as told,
    ):
        Target(url).open()

    assert not isinstance(told.value, Unavailable)


def test_startup_options_that_pgbouncer_refuses_are_named(postgres_database: str) -> None:
    with (
        pgbouncer(postgres_database) as url,
        pytest.raises(Unusable, match="PgBouncer passes no `options` on: use `alter role") as told,
    ):
        connected(f"{url}?options=-csearch_path%3Dleads")

    assert not isinstance(told.value, Unavailable)


def _verdict(url: str) -> tuple[str, str]:
    (found,) = [
        verdict
        for verdict in asyncio.run(verdicts_here(Settings(warehouse=url), {}, httpx.AsyncClient()))
        if verdict.check == "warehouse"
    ]
    return found.standing, f"{found.seen} | {found.mend}"


def test_the_doctor_tells_how_far_the_tables_are(postgres_database: str) -> None:
    assert _verdict(postgres_database) == (
        "ok",
        "can be written to, UTF8; no tables yet: the sink makes them at its start | ",
    )
    writer = Target(postgres_database).open()
    assert _verdict(postgres_database)[1] == "can be written to, UTF8; tables as in this release | "
    writer.open([leads(0)])
    writer.write({"leads": [lead_row(0, 0)]}, {leads(0): 1})
    writer.close()
    _execute(postgres_database, "alter table leads drop column transcript_at")
    assert _verdict(postgres_database)[1] == "can be written to, UTF8; the sink adds 1 columns at its next start | "
    _execute(postgres_database, "drop table leads cascade")
    assert _verdict(postgres_database)[0] == "broken"


def _write(target: Target) -> None:
    writer = target.open()
    writer.open([leads(0)])
    writer.write({"leads": [lead_row(0, 0)]}, {leads(0): 1})


@pytest.mark.parametrize(
    ("statement", "lacks"),
    [
        ("revoke create on schema public from limited", "`grant create on schema public to limited`"),
        ("revoke temporary on database {} from public, limited", "`grant temporary on database … to limited`"),
        ("create table leads (i int)", "to own leads"),
        ("alter role limited set search_path = nowhere", "a schema that search_path names"),
        ("alter role limited set default_transaction_read_only = on", "a server that takes writes"),
    ],
)
def test_the_doctor_and_the_sink_name_what_a_role_lacks(postgres_database: str, statement: str, lacks: str) -> None:
    name = postgres_database.rsplit("/", 1)[1]
    limited = Target(postgres_database.replace("leadstream@", "limited@"))
    _execute(postgres_database, "create role limited login", "grant create on schema public to limited")
    try:
        assert _verdict(limited.url)[0] == "ok"
        _execute(postgres_database, statement.format(name))

        standing, said = _verdict(limited.url)
        with pytest.raises(Unusable):
            _write(limited)
    finally:
        for writer in limited.writers:
            writer.close()
        _execute(postgres_database, "drop owned by limited", "drop role limited")

    assert (standing, f"the sink needs {lacks}" in said) == ("broken", True), said


def test_the_doctor_warns_of_a_server_that_is_reached_in_clear(postgres: str) -> None:
    # A name that is no loopback, at an address that is.
    url = _at(postgres, "postgres", host="db.example.com", hostaddr="127.0.0.1")

    standing, said = _verdict(url)

    assert standing == "warning"
    assert "no TLS on the way to db.example.com | add sslmode=verify-full" in said


def test_the_role_of_the_docs_is_enough(postgres: str) -> None:
    [script] = re.findall(r"```sql\n(create role.*?)```", warehouse_page(), re.DOTALL)
    # `leadstream` is the superuser of this server.
    script = re.sub(r"\bleadstream\b", "writer", script)
    url = new_database(postgres, "leads")
    target = Target(url.replace("leadstream@", "writer@"))
    try:
        _execute(url, *filter(str.strip, script.split(";")))

        assert _verdict(target.url)[0] == "ok"
        _write(target)
        assert target.ask("select count(*) from writer.leads") == [(1,)]
    finally:
        for writer in target.writers:
            writer.close()
        _execute(url, "drop owned by writer cascade", "drop role writer")
