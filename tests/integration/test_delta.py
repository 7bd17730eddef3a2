"""What is particular to Delta Lake: torn tails, small files, readers in between."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from sinks.consume import Unusable
from sinks.warehouse.query import BadQuery
from sinks.warehouse.removals import PersonForgotten
from sinks.warehouse.status import status_of
from sinks.warehouse.tables import LEAD_TABLE
from tests.builders import NOON, PAGE, PERSON
from tests.integration.warehouses import Target
from tests.warehouse_rows import lead_row, leads, message_row, messages


def _events(tmp_path: Path) -> Path:
    return tmp_path / "lead_events"


def test_a_commit_that_a_power_cut_tore_is_written_again_from_kafka(tmp_path: Path) -> None:
    target = Target(str(tmp_path))
    writer = target.open()
    writer.open([leads(0)])
    for offset in range(3):
        writer.write({"leads": [lead_row(0, offset, revision=offset + 1)]}, {leads(0): offset + 1})
    commit = _events(tmp_path) / "_delta_log" / f"{3:020}.json"
    commit.write_bytes(commit.read_bytes()[:50])

    survivor = target.open()
    stored = survivor.open([leads(0)])
    survivor.write({"leads": [lead_row(0, offset, revision=offset + 1) for offset in (2, 3)]}, {leads(0): 4})

    assert stored == {leads(0): 2}
    assert target.ask("select _offset from lead_events order by 1") == [(0,), (1,), (2,), (3,)]
    assert target.ask("select revision from leads") == [(4,)]


def test_small_files_are_joined_and_offsets_outlive_that(tmp_path: Path) -> None:
    target = Target(str(tmp_path))
    writer = target.open()
    writer.open([leads(0)])

    for offset in range(60):
        writer.write({"leads": [lead_row(0, offset, f"l{offset % 7}", offset + 1)]}, {leads(0): offset + 1})

    assert len(DeltaTable(str(_events(tmp_path))).file_uris()) < 15
    assert target.open().open([leads(0)]) == {leads(0): 60}
    assert target.ask("select count(*), count(distinct _offset) from lead_events") == [(60, 60)]
    assert target.ask("select min(revision), count(*) from leads") == [(54, 7)]


def test_a_reader_that_began_before_small_files_were_joined_can_go_on(tmp_path: Path) -> None:
    target = Target(str(tmp_path))
    writer = target.open()
    writer.open([leads(0)])
    writer.write({"leads": [lead_row(0, 0)]}, {leads(0): 1})
    began_with = [Path(uri) for uri in DeltaTable(str(_events(tmp_path))).file_uris()]

    for offset in range(1, 60):
        writer.write({"leads": [lead_row(0, offset, revision=offset + 1)]}, {leads(0): offset + 1})

    assert began_with
    assert set(began_with).isdisjoint(Path(uri) for uri in DeltaTable(str(_events(tmp_path))).file_uris())
    assert all(path.exists() for path in began_with)


def test_joining_files_leaves_a_checkpoint_so_that_opening_need_not_read_the_whole_log(tmp_path: Path) -> None:
    target = Target(str(tmp_path))
    writer = target.open()
    writer.open([leads(0)])

    for offset in range(60):
        writer.write({"leads": [lead_row(0, offset, revision=offset + 1)]}, {leads(0): offset + 1})

    for table in ("lead_events", "leads"):
        assert list((tmp_path / table / "_delta_log").glob("*.checkpoint.parquet"))


def test_a_column_that_the_files_do_not_have_yet_is_null(tmp_path: Path) -> None:
    """A warehouse of an earlier release, read by this one before its sink has written again."""
    narrow = pa.schema([field for field in LEAD_TABLE.schema if field.name not in ("close_reason", "ad")])
    row = {name: value for name, value in lead_row(0, 0).items() if name in narrow.names}
    write_deltalake(_events(tmp_path), pa.Table.from_pylist([row], schema=narrow))

    target = Target(str(tmp_path))

    assert target.ask("select lead_id, ad, close_reason from leads") == [("l1", None, None)]
    assert target.ask("select ad_id, leads from lead_funnel") == [(None, 1)]


def test_rows_that_were_not_merged_before_a_kill_are_merged_by_the_next_process(tmp_path: Path) -> None:
    target = Target(str(tmp_path))
    writer = target.open()
    writer.open([leads(0)])
    writer.write({"leads": [lead_row(0, 0)]}, {leads(0): 1})

    survivor = target.open()
    survivor.open([leads(0)])
    survivor.fold()

    assert len(DeltaTable(str(tmp_path / "leads")).file_uris()) == 1


def test_a_local_warehouse_is_closed_to_other_users(tmp_path: Path) -> None:
    Target(str(tmp_path / "warehouse")).open()

    modes = [path.stat().st_mode & 0o077 for path in (tmp_path / "warehouse").iterdir()]
    assert set(modes) == {0}


def test_every_commit_moves_the_offset_in_the_same_file_as_the_rows(tmp_path: Path) -> None:
    target = Target(str(tmp_path))
    writer = target.open()
    writer.open([leads(0)])

    writer.write({"leads": [lead_row(0, 0)]}, {leads(0): 1})

    lines = (_events(tmp_path) / "_delta_log" / f"{1:020}.json").read_text().splitlines()
    actions = [json.loads(line) for line in lines]
    assert sum("add" in action for action in actions) == 1
    assert [action["txn"] for action in actions if "txn" in action] == [
        {"appId": "leadstream-warehouse/cluster-one/leads/0", "version": 1}
    ]


@pytest.mark.parametrize("name", ["two words", "\u00fcber", "it's", 'a "b"', "a#b?c", "{a}", "100%", "*"])
def test_a_path_may_have_any_name_that_people_give(tmp_path: Path, name: str) -> None:
    target = Target(str(tmp_path / name))
    writer = target.open()
    writer.open([leads(0), messages(0)])
    writer.write(
        {"leads": [lead_row(0, 0, "l1"), lead_row(0, 1, "l2")], "messenger-events": [message_row(0)]},
        {leads(0): 2, messages(0): 1},
    )
    writer.fold()
    writer.forget([PersonForgotten(PAGE, PERSON, *[NOON + timedelta(days=1)] * 2)])
    writer.write({"leads": [lead_row(0, 2, "l1", revision=2)]}, {leads(0): 3})

    assert target.ask("select lead_id, revision from leads order by 1") == [("l1", 2), ("l2", 1)]
    assert target.ask("select count(*) from user_messages") == [(0,)]


@pytest.mark.parametrize("name", ["a[b]", "a\\b", "a%20b"])
def test_a_path_that_delta_rs_misreads_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(Unusable, match="its path has a bracket, a backslash, or a % before two digits"):
        Target(str(tmp_path / name)).open()
    with pytest.raises(BadQuery, match="cannot hold Delta tables"):
        Target(str(tmp_path / name)).ask("select 1")


def _commit(table: Path, *actions: dict[str, Any]) -> None:
    """As another program commits."""
    commits = sorted((table / "_delta_log").glob("*.json"))
    new = table / "_delta_log" / f"{int(commits[-1].stem) + 1:020}.json"
    new.write_text("\n".join(map(json.dumps, actions)))


_DELETING: dict[str, Any] = {
    "protocol": {
        "minReaderVersion": 3,
        "minWriterVersion": 7,
        "readerFeatures": ["deletionVectors"],
        "writerFeatures": ["deletionVectors"],
    }
}


def test_a_table_whose_files_hold_deleted_rows_is_neither_read_nor_written(tmp_path: Path) -> None:
    target = Target(str(tmp_path / "warehouse"))
    target.open()
    _commit(tmp_path / "warehouse" / "lead_events", _DELETING)

    with pytest.raises(Unusable, match="deletion vectors"):
        target.open()
    with pytest.raises(BadQuery, match="deletion vectors"):
        target.ask("select 1")


def test_rows_that_another_program_rewrote_without_a_word_are_counted(tmp_path: Path) -> None:
    target = Target(str(tmp_path / "warehouse"))
    writer = target.open()
    writer.open([leads(0)])
    writer.write({"leads": [lead_row(0, 0, "l1"), lead_row(0, 1, "l2")]}, {leads(0): 2})
    table = tmp_path / "warehouse" / "lead_events"
    [file] = table.glob("*.parquet")
    again = file.rename(table / "rewritten.parquet")
    added = {"path": again.name, "partitionValues": {}, "size": again.stat().st_size, "modificationTime": 1}
    _commit(
        table,
        {"remove": {"path": file.name, "deletionTimestamp": 1, "dataChange": False}},
        {"add": {**added, "dataChange": False}},
    )

    [events] = [table for table in status_of(target.url, [leads(0)]).tables if table.name == "lead_events"]

    assert (events.rows, events.files, events.written_at) == (2, 1, None)
    assert target.ask("select count(*) from lead_events") == [(2,)]


def test_a_table_that_does_not_say_its_cluster_is_refused_with_the_way_out(tmp_path: Path) -> None:
    write_deltalake(_events(tmp_path), LEAD_TABLE.schema.empty_table())

    with pytest.raises(Unusable, match=r"lead_events does not name .* Point LEADSTREAM_WAREHOUSE at a new place"):
        Target(str(tmp_path)).open()


def test_a_table_that_was_restored_is_noticed_when_it_is_opened(tmp_path: Path) -> None:
    """Delta keeps the offsets of the newest version beside the rows of an older one."""
    target = Target(str(tmp_path))
    writer = target.open()
    writer.open([leads(0)])
    for offset in range(3):
        writer.write({"leads": [lead_row(0, offset, revision=offset + 1)]}, {leads(0): offset + 1})
    DeltaTable(str(_events(tmp_path))).restore(2)

    with pytest.raises(Unusable, match=r"lead_events.* was restored to an older version \(its version 4\)"):
        target.open().open([leads(0)])
