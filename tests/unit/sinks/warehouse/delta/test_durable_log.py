"""What a power cut can leave of a Delta table, and that the rest is whole."""

import json
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake

from sinks.warehouse.delta.durable_log import paths_of_commits, set_torn_tail_aside, sync_commits

SCHEMA = pa.schema([("number", pa.int64())])


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """A table with the rows 1, 2, 3, each a commit that also moves an offset."""
    DeltaTable.create(str(tmp_path), SCHEMA)
    for number in (1, 2, 3):
        properties = CommitProperties(app_transactions=[Transaction("app", number)])
        rows = pa.table({"number": [number]}, schema=SCHEMA)
        write_deltalake(str(tmp_path), rows, mode="append", commit_properties=properties)
    return tmp_path


def _commit(table: Path, version: int) -> Path:
    return table / "_delta_log" / f"{version:020}.json"


def _file_of(table: Path, version: int) -> Path:
    actions = [json.loads(line) for line in _commit(table, version).read_text().splitlines()]
    [path] = [str(action["add"]["path"]) for action in actions if "add" in action]
    return table / path


def _offset(table: Path) -> int | None:
    offset: int | None = DeltaTable(str(table)).transaction_version("app")
    return offset


def test_a_whole_table_is_left_as_it_is(table: Path) -> None:
    assert set_torn_tail_aside(table) == 0
    assert _offset(table) == 3


def test_a_half_written_commit_is_set_aside_with_its_offset(table: Path) -> None:
    commit = _commit(table, 3)
    commit.write_bytes(commit.read_bytes()[:-40])

    assert set_torn_tail_aside(table) == 1
    assert _offset(table) == 2


@pytest.mark.parametrize("kept", [0, 100])
def test_a_commit_that_names_a_torn_file_is_set_aside(table: Path, kept: int) -> None:
    file = _file_of(table, 3)
    file.write_bytes(file.read_bytes()[:kept])

    assert set_torn_tail_aside(table) == 1
    assert _offset(table) == 2


def test_a_commit_that_cannot_be_read_now_is_not_taken_for_a_torn_one(
    table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = sorted((table / "_delta_log").iterdir())

    def denied(_: Path) -> bytes:
        raise PermissionError

    monkeypatch.setattr(Path, "read_bytes", denied)

    with pytest.raises(PermissionError):
        set_torn_tail_aside(table)
    assert sorted((table / "_delta_log").iterdir()) == before


def test_several_torn_commits_are_set_aside_up_to_the_last_whole_one(table: Path) -> None:
    _commit(table, 3).write_bytes(b"")
    _file_of(table, 2).unlink()

    assert set_torn_tail_aside(table) == 2
    assert _offset(table) == 1


def test_the_version_that_was_set_aside_can_be_written_again(table: Path) -> None:
    _commit(table, 3).write_bytes(b"{")
    set_torn_tail_aside(table)

    write_deltalake(str(table), pa.table({"number": [4]}, schema=SCHEMA), mode="append")

    assert DeltaTable(str(table)).version() == 3
    assert set_torn_tail_aside(table) == 0


@pytest.mark.parametrize("pointer", [b"", b"{}", b'{"version": 3}', b'{"version": 99}'])
def test_a_pointer_to_a_checkpoint_that_is_not_whole_is_set_aside(table: Path, pointer: bytes) -> None:
    (table / "_delta_log" / "_last_checkpoint").write_bytes(pointer)
    (table / "_delta_log" / f"{3:020}.checkpoint.parquet").write_bytes(b"PAR1")

    set_torn_tail_aside(table)

    assert not (table / "_delta_log" / "_last_checkpoint").exists()
    assert _offset(table) == 3


def test_a_whole_checkpoint_is_kept(table: Path) -> None:
    DeltaTable(str(table)).create_checkpoint()

    set_torn_tail_aside(table)

    assert (table / "_delta_log" / "_last_checkpoint").exists()
    assert _offset(table) == 3


def test_an_empty_directory_has_nothing_to_set_aside(tmp_path: Path) -> None:
    assert set_torn_tail_aside(tmp_path) == 0


def test_each_commit_is_synced_with_its_files_and_directories(table: Path) -> None:
    synced = [str(path.relative_to(table)) for path in paths_of_commits(table, 1, 3)]

    files = [_file_of(table, version).name for version in (2, 3)]
    logs = [f"_delta_log/{version:020}.json" for version in (2, 3)]
    assert synced == [files[0], logs[0], files[1], logs[1], ".", "_delta_log"]


def test_what_a_commit_added_can_be_synced(table: Path) -> None:
    sync_commits(table, 0, 3)

    with pytest.raises(FileNotFoundError):
        sync_commits(table, 3, 4)
