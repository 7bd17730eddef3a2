"""Both warehouses under kill -9, a paused writer, a full disk, a torn log, a replay, and readers all the while.

What must hold after each: one row a Kafka record, `leads` is the newest revision of each, stored offsets are those of
the rows, and no reader ever failed or saw less than before.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count, pairwise
from pathlib import Path

import pytest
from deltalake.exceptions import DeltaError

from sinks.warehouse.query import ask
from tests.faults.warehouse_worker import PARTITIONS, log, open_warehouse
from tests.integration.warehouses import new_database, postgres_server
from tests.warehouse_rows import lead_row, leads

pytestmark = pytest.mark.faults

_SERIAL = count(1)
_DELTA_POINTS = [
    *(
        f"sinks.warehouse.delta.warehouse:{name}:{moment}:3"
        for name in ("_append", "sync", "_fold", "_merge")
        for moment in ("call", "return")
    ),
    *(f"deltalake.writer.writer:write_deltalake:{moment}:5" for moment in ("call", "return")),
    *(f"sinks.warehouse.delta.durable_log:sync_commits:{moment}:8" for moment in ("call", "return")),
    *(f"sinks.warehouse.delta.warehouse:_compact:{moment}:1" for moment in ("call", "return")),
]
_POSTGRES_POINTS = [
    *(
        f"sinks.warehouse.postgres.warehouse:{name}:{moment}:4"
        for name in ("_move_offsets", "_keep", "_upsert", "write")
        for moment in ("call", "return")
    ),
]


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with postgres_server() as url:
        yield url


@pytest.fixture(params=["delta", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "delta":
        return str(tmp_path / "warehouse")
    return new_database(request.getfixturevalue("server"), f"faults_{next(_SERIAL)}")


def test_a_kill_at_any_point_loses_and_doubles_nothing(url: str) -> None:
    points = _POSTGRES_POINTS if url.startswith("postgresql://") else _DELTA_POINTS
    open_warehouse(url).close()
    with _worker("read", url) as reader:
        for point in points:
            with _worker("write", url, point) as writer:
                assert writer.wait(120) == -signal.SIGKILL, point
            _assert_offsets_are_those_of_the_rows(url)
        _run("write", url)
        seen = _stop(reader)

    _assert_complete(url)
    assert len(seen) > len(points)
    assert all(before[0] <= after[0] and before[1] <= after[1] for before, after in pairwise(seen))


def test_a_writer_paused_while_another_wrote_is_fenced_and_goes_on_from_there(url: str) -> None:
    with _worker("write", url) as paused:
        _lines(paused, 20)
        paused.send_signal(signal.SIGSTOP)
        _run("write", url)
        paused.send_signal(signal.SIGCONT)
        said, _ = paused.communicate(timeout=120)

    assert "fenced" in said.split()
    assert said.split()[-1] == "finished"
    _assert_complete(url)


def test_a_replay_into_a_full_warehouse_changes_nothing(url: str) -> None:
    _run("write", url)
    before = [
        ask(url, f"select * from {table} order by _partition, _offset").rows for table in ("lead_events", "leads")
    ]

    _run("replay", url)

    after = [ask(url, f"select * from {table} order by _partition, _offset").rows for table in ("lead_events", "leads")]
    assert after == before
    _assert_complete(url)


def test_a_log_torn_at_its_end_is_written_again(tmp_path: Path) -> None:
    url = str(tmp_path / "warehouse")
    with _worker("write", url, "sinks.warehouse.delta.warehouse:_append:return:60") as writer:
        assert writer.wait(120) == -signal.SIGKILL
    for table in ("lead_events", "leads"):
        last = max((tmp_path / "warehouse" / table / "_delta_log").glob("*.json"))
        os.truncate(last, last.stat().st_size // 2)

    _run("write", url)

    _assert_complete(url)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small tmpfs needs root")
def test_a_full_disk_loses_nothing_and_the_same_writer_goes_on_once_there_is_room(tmp_path: Path) -> None:
    with _small_disk(tmp_path / "disk", "3m") as disk:
        url = str(disk / "warehouse")
        writer = open_warehouse(url)
        writer.open([leads(0)])
        writer.write({"leads": [lead_row(0, 0)]}, {leads(0): 1})
        ballast = disk / "ballast"
        with pytest.raises(OSError, match="No space"):
            _fill_up(ballast)

        with pytest.raises((DeltaError, OSError)):
            writer.write({"leads": [lead_row(0, 1, revision=2)]}, {leads(0): 2})
        assert ask(url, "select revision from leads").rows == ((1,),)

        ballast.unlink()
        writer.write({"leads": [lead_row(0, 1, revision=2)]}, {leads(0): 2})
        writer.fold()
        assert ask(url, "select revision from leads").rows == ((2,),)
        assert ask(url, "select count(*) from lead_events").rows == ((2,),)


def _everything(url: str) -> list[object]:
    return [ask(url, f"select * from {table} order by _partition, _offset").rows for table in ("lead_events", "leads")]


def _fill_up(file: Path) -> None:
    with file.open("wb", buffering=0) as out:
        while True:
            out.write(bytes(4096))


def _assert_complete(url: str) -> None:
    """The warehouse is the fold of the log, worked out without any of the sink's code."""
    records = log()
    newest: dict[str, int] = {}
    for revisions in records.values():
        for name, revision in revisions:
            newest[name] = max(revision, newest.get(name, 0))
    places = {
        (partition.partition, offset) for partition, revisions in records.items() for offset in range(len(revisions))
    }

    rows = ask(url, "select _partition, _offset from lead_events").rows
    assert (len(rows), set(rows)) == (len(places), places)
    assert dict(ask(url, "select lead_id, revision from leads").rows) == newest
    assert ask(url, "select count(*) from leads").rows == ((len(newest),),)
    _assert_offsets_are_those_of_the_rows(url)


def _assert_offsets_are_those_of_the_rows(url: str) -> None:
    warehouse = open_warehouse(url)
    try:
        stored = warehouse.open(PARTITIONS)
    finally:
        warehouse.close()
    ends = ask(url, "select _partition, max(_offset) + 1, count(*) from lead_events group by _partition").rows
    assert {leads(partition): end for partition, end, _ in ends} == stored
    assert all(end == rows for _, end, rows in ends)


@contextmanager
def _worker(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "tests.faults.warehouse_worker", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def _run(*arguments: str) -> None:
    with _worker(*arguments) as worker:
        said, _ = worker.communicate(timeout=300)
    assert worker.returncode == 0
    assert said.split()[-1] == "finished"


def _lines(worker: subprocess.Popen[str], wanted: int) -> None:
    assert worker.stdout is not None
    for _ in range(wanted):
        assert worker.stdout.readline(), "the writer ended early"


def _stop(reader: subprocess.Popen[str]) -> list[tuple[int, int]]:
    """What the reader saw; it must still be reading."""
    assert reader.poll() is None, "a read failed"
    reader.send_signal(signal.SIGTERM)
    said, _ = reader.communicate(timeout=60)
    whole = said.splitlines()[:-1]
    return [(int(events), int(current)) for events, current in map(str.split, whole)]


@contextmanager
def _small_disk(folder: Path, size: str) -> Iterator[Path]:
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], check=False)
    if mounted.returncode:
        pytest.skip("a tmpfs cannot be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)
