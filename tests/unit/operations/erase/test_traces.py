"""What `erase --verify` finds in files, whatever they are packed in."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from operations.erase.traces import Trace, in_files, needles, replay_of
from runtime.settings import Settings

PSID = "7999123456789012"
ANSWER = "Zürich/Ost"


def found_in(home: Path, *texts: str) -> list[Trace]:
    settings = Settings(state_dir=home, warehouse=str(home / "warehouse"))
    return in_files(settings, needles(texts), lambda _: None)


@pytest.mark.parametrize(
    "held", [f'{{"psid": "{PSID}"}}'.encode(), ANSWER.encode(), b"Z\\u00fcrich/Ost", b"Z\\u00fcrich\\/Ost"]
)
def test_a_text_is_found_as_it_stands_and_as_json_escapes_it(tmp_path: Path, held: bytes) -> None:
    (tmp_path / "spool").mkdir()
    (tmp_path / "spool" / "one").write_bytes(b"x" + held + b"y")

    assert found_in(tmp_path, PSID, ANSWER) == [Trace("file", str(tmp_path / "spool" / "one"), 1)]


def test_a_compressed_table_is_looked_into_through_lists_records_and_bytes(tmp_path: Path) -> None:
    kept = {
        "answers": [[{"question": "Where?", "answer": f"in {ANSWER}"}], []],
        "key": [b"1:" + PSID.encode(), b"2"],
    }
    (tmp_path / "warehouse").mkdir()
    pq.write_table(pa.table(kept), tmp_path / "warehouse" / "a.parquet", compression="zstd", write_statistics=False)

    assert [trace.count for trace in found_in(tmp_path, ANSWER)] == [1]
    assert [trace.count for trace in found_in(tmp_path, PSID)] == [1]
    assert found_in(tmp_path, "7999123456789013") == []


def test_what_a_rebuild_left_beside_the_warehouse_is_searched_and_kafka_s_own_files_are_not(tmp_path: Path) -> None:
    for place in ("warehouse.before", "kafka/data"):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "one").write_text(PSID)

    assert [Path(trace.place).parent.name for trace in found_in(tmp_path, PSID)] == ["warehouse.before"]


def test_a_topic_tells_its_replay() -> None:
    settings = Settings(topic_prefix="eu-")

    assert replay_of(settings, "eu-leads-replay-fix-7") == "fix-7"
    assert replay_of(settings, "eu-leads") is None
