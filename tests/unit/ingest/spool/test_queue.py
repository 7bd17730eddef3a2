"""The spool keeps what it has promised, in order, within its bound, for one process and its user."""

import asyncio
import gc
import sqlite3
import stat
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.publisher import Delivery
from ingest.spool.file import ROW_OVERHEAD, Spooled, SpoolFile, SpoolUnusable, move_spool
from ingest.spool.queue import Spool, SpoolFault, SpoolFull
from runtime.clock import from_millis
from tests.conftest import at_most


def a_delivery(body: bytes = b"a body", number: int = 1) -> Delivery:
    return Delivery(f"d{number}", from_millis(1_770_000_000_123), "sha256=0", body)


@given(st.lists(st.binary(max_size=40), max_size=8))
def test_what_was_written_is_read_back_in_order(tmp_path_factory: pytest.TempPathFactory, bodies: list[bytes]) -> None:
    path = tmp_path_factory.mktemp("spool") / "spool.sqlite"
    file = SpoolFile(path)
    positions = file.write([a_delivery(body) for body in bodies], [])
    file.close()

    again = SpoolFile(path)

    assert again.read(0) == [Spooled(*spooled) for spooled in zip(positions, map(a_delivery, bodies), strict=True)]
    assert again.contents() == (len(bodies), sum(map(len, bodies)) + len(bodies) * ROW_OVERHEAD)
    again.close()


def test_positions_are_never_given_twice(tmp_path: Path) -> None:
    file = SpoolFile(tmp_path / "spool.sqlite")
    first = file.write([a_delivery()], [])
    file.write([], first)
    file.wipe()
    file.close()

    with closing(SpoolFile(tmp_path / "spool.sqlite")) as again:
        assert again.write([a_delivery()], []) > first


def test_a_clock_that_goes_back_changes_no_order(tmp_path: Path) -> None:
    file = SpoolFile(tmp_path / "spool.sqlite")
    times = [from_millis(millis) for millis in (3000, 1000, 2000)]
    file.write([Delivery("d", time, "sha256=0", b"") for time in times], [])

    assert [spooled.delivery.received_at for spooled in file.read(0)] == times
    file.close()


def test_a_drained_spool_says_nothing_of_what_was_in_it(tmp_path: Path) -> None:
    file = SpoolFile(tmp_path / "spool.sqlite")
    positions = file.write([a_delivery(b"planted " * 1000)], [])
    file.write([], positions)

    file.wipe()

    assert not [path for path in tmp_path.iterdir() if b"planted" in path.read_bytes()]
    file.close()


def test_the_file_is_for_its_user_alone(tmp_path: Path) -> None:
    with closing(SpoolFile(tmp_path / "deep" / "spool.sqlite")) as file:
        file.write([a_delivery()], [])

    modes = {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "deep").iterdir()}
    assert modes == {0o600}
    assert stat.S_IMODE((tmp_path / "deep").stat().st_mode) == 0o700


def test_a_second_process_is_refused(tmp_path: Path) -> None:
    first = SpoolFile(tmp_path / "spool.sqlite")

    with pytest.raises(SpoolUnusable, match="in use by another process"):
        SpoolFile(tmp_path / "spool.sqlite")
    first.close()


def test_a_file_that_is_no_spool_is_refused(tmp_path: Path) -> None:
    (tmp_path / "spool.sqlite").write_bytes(b"no database" * 1000)

    with pytest.raises(SpoolUnusable, match="not a database"):
        SpoolFile(tmp_path / "spool.sqlite")


def committed_one_by_one(path: Path, count: int) -> tuple[SpoolFile, list[bytes]]:
    """A spool that is still open, as a crash leaves it, and its bodies."""
    file, bodies = SpoolFile(path), [b"%d " % number * 300 for number in range(count)]
    for body in bodies:
        file.write([a_delivery(body)], [])
    return file, bodies


@given(cut=st.floats(0, 1), noise=st.binary(max_size=40))
@at_most(60)
def test_a_log_that_is_torn_at_any_byte_loses_nothing_before_it(
    cut: float, noise: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """SQLite's write-ahead log is all that a crash can tear; what is behind the tear was never answered 200."""
    home = tmp_path_factory.mktemp("torn")
    file, bodies = committed_one_by_one(home / "whole", 6)
    database, log = (home / "whole").read_bytes(), (home / "whole-wal").read_bytes()
    file.close()
    kept = round(len(log) * cut)
    (home / "torn").write_bytes(database)
    (home / "torn-wal").write_bytes(log[:kept] + noise)

    torn = SpoolFile(home / "torn")

    found = [spooled.delivery.body for spooled in torn.read(0)]
    assert found == bodies[: len(found)]
    assert len(found) == 6 or kept < len(log)
    torn.write([a_delivery(b"after")], [])
    assert [spooled.delivery.body for spooled in torn.read(0)] == [*found, b"after"]
    torn.close()


@given(at=st.integers(0, 30_000), noise=st.binary(min_size=1, max_size=5000))
@at_most(60)
def test_a_damaged_file_is_refused_or_read_and_nothing_else(
    at: int, noise: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("damaged") / "spool"
    file, _ = committed_one_by_one(path, 40)
    file.close()
    whole = path.read_bytes()
    at %= len(whole)
    path.write_bytes(whole[:at] + noise + whole[at + len(noise) :])

    try:
        spool = SpoolFile(path)
    except SpoolUnusable:
        return
    try:
        spool.read(0)
    except sqlite3.Error:
        pass
    finally:
        spool.close()


def test_a_delivery_with_a_damaged_time_is_named_as_damage(tmp_path: Path) -> None:
    file, _ = committed_one_by_one(tmp_path / "spool", 1)
    file.close()
    with sqlite3.connect(tmp_path / "spool") as damage:
        damage.execute("update deliveries set received_at = 1 << 62")
    damage.close()
    spool = SpoolFile(tmp_path / "spool")

    with pytest.raises(sqlite3.DatabaseError, match="delivery 1 of the spool is damaged"):
        spool.read(0)

    spool.close()


def test_a_file_whose_tables_are_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "spool"
    file, _ = committed_one_by_one(path, 1)
    file.close()
    path.write_bytes(path.read_bytes().replace(b"CREATE TABLE", b"CR\x80ATE TABLE"))

    with pytest.raises(SpoolUnusable, match="its tables cannot be read"):
        SpoolFile(path)


def test_a_spool_moves_behind_another(tmp_path: Path) -> None:
    for start, name in ((0, "one"), (2, "two")):
        file = SpoolFile(tmp_path / name)
        file.write([a_delivery(name.encode() + b"%d" % number, start + number) for number in range(2)], [])
        file.close()

    move_spool(tmp_path / "two", tmp_path / "one")

    with closing(SpoolFile(tmp_path / "one")) as moved:
        bodies = [spooled.delivery.body for spooled in moved.read(0)]
    assert bodies == [b"one0", b"one1", b"two0", b"two1"]
    assert not (tmp_path / "two").exists()


def test_a_move_that_was_cut_short_leaves_no_second_copy(tmp_path: Path) -> None:
    deliveries = [a_delivery(number=number) for number in range(3)]
    for name, held in (("one", deliveries[:2]), ("two", deliveries)):
        with closing(SpoolFile(tmp_path / name)) as file:
            file.write(held, [])

    move_spool(tmp_path / "two", tmp_path / "one")

    with closing(SpoolFile(tmp_path / "one")) as moved:
        assert [spooled.delivery for spooled in moved.read(0)] == deliveries


@pytest.mark.anyio
async def test_the_limit_counts_bodies_and_rows(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool.sqlite", 2 * (ROW_OVERHEAD + 10))
    await spool.append(a_delivery(bytes(10)))
    position = await spool.append(a_delivery(bytes(10)))

    with pytest.raises(SpoolFull):
        await spool.append(a_delivery(b""))
    assert spool.is_full
    spool.remove(Spooled(position, a_delivery(bytes(10))))
    assert await spool.append(a_delivery(b"")) > position
    await spool.close()


@pytest.mark.anyio
async def test_what_the_disk_refuses_is_not_in_the_spool(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool.sqlite", 2**20)
    spool._file._connection.execute("pragma max_page_count = 8")

    with pytest.raises(SpoolFault, match="full"):
        await spool.append(a_delivery(bytes(100_000)))

    assert (spool.count, spool.size) == (0, 0)
    assert await spool.append(a_delivery(b"small")) == 1
    await spool.close()


@pytest.mark.anyio
async def test_what_arrives_together_is_one_commit(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool.sqlite", 2**20)
    statements: list[str] = []
    spool._file._connection.set_trace_callback(statements.append)

    positions = await asyncio.gather(*(spool.append(a_delivery(number=number)) for number in range(100)))

    assert positions == list(range(1, 101))
    assert len([statement for statement in statements if statement.lower() == "commit"]) <= 2
    await spool.close()


def beginning_of_wipe(spool: Spool) -> asyncio.Event:
    """Is set once the spool is empty on disk."""
    loop, begun = asyncio.get_running_loop(), asyncio.Event()

    def trace(statement: str) -> None:
        if statement == "vacuum":
            loop.call_soon_threadsafe(begun.set)

    spool._file._connection.set_trace_callback(trace)
    return begun


def deny_deletions(spool: Spool, times: int) -> None:
    denials = iter([sqlite3.SQLITE_DENY] * times)

    def authorise(action: int, *_: object) -> int:
        return next(denials, sqlite3.SQLITE_OK) if action == sqlite3.SQLITE_DELETE else sqlite3.SQLITE_OK

    spool._file._connection.set_authorizer(authorise)


@pytest.mark.anyio
async def test_a_removal_that_fails_is_tried_again_without_an_arrival(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool.sqlite", 2**20, try_again_after=timedelta(milliseconds=1))
    position = await spool.append(a_delivery())
    deny_deletions(spool, 3)
    vacuums = beginning_of_wipe(spool)

    spool.remove(Spooled(position, a_delivery()))
    await vacuums.wait()

    await spool.close()


@pytest.mark.anyio
async def test_a_spool_closes_while_its_disk_refuses_a_removal(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool.sqlite", 2**20, try_again_after=timedelta(milliseconds=1))
    position = await spool.append(a_delivery())
    deny_deletions(spool, 1_000_000)
    spool.remove(Spooled(position, a_delivery()))
    await asyncio.sleep(0)

    await spool.close()
    await asyncio.sleep(0.01)
    # anyio fails a test that leaves the fault of a task unread.
    del spool
    gc.collect()

    with closing(SpoolFile(tmp_path / "spool.sqlite")) as again:
        assert [spooled.position for spooled in again.read(0)] == [position]


@pytest.mark.anyio
async def test_a_delivery_that_arrives_while_the_file_is_wiped_is_written(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool.sqlite", 2**20)
    position = await spool.append(a_delivery())
    vacuums = beginning_of_wipe(spool)
    spool.remove(Spooled(position, a_delivery()))
    await vacuums.wait()

    assert await spool.append(a_delivery(b"during the wipe")) > position
    await spool.close()


@pytest.mark.anyio
async def test_a_removal_that_fails_is_tried_again_with_the_next_arrival(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool.sqlite", 2**20)
    position = await spool.append(a_delivery())
    deny_deletions(spool, 1)
    spool.remove(Spooled(position, a_delivery()))
    with pytest.raises(SpoolFault):
        await spool.append(a_delivery(b"in the same commit"))
    await spool.append(a_delivery(b"later"))

    assert [spooled.delivery.body for spooled in await spool.read(0)] == [b"later"]
    await spool.close()
