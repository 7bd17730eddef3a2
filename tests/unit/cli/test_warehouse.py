"""`leadstream warehouse`: questions, and files of the answers."""

import csv
import io
import json
import os
import re
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from aiokafka import TopicPartition
from click.testing import CliRunner, Result

from cli.main import main
from messenger.events import Answer
from schemas.codec import lead_codec
from sinks.warehouse.delta.warehouse import DeltaWarehouse
from sinks.warehouse.export import csv_cell
from sinks.warehouse.tables import tables_by_topic
from tests.builders import PERSON, a_lead

pytestmark = pytest.mark.slow

PARTITION = TopicPartition("leads", 0)


def _sql(tmp_path: Path, query: str, *options: str) -> Result:
    DeltaWarehouse(str(tmp_path / "warehouse"), tables_by_topic(str), cluster_id="one")
    return _run(tmp_path, "sql", query, *options)


def _run(tmp_path: Path, *arguments: str) -> Result:
    environ = {"LEADSTREAM_WAREHOUSE": str(tmp_path / "warehouse"), "LEADSTREAM_STATE_DIR": str(tmp_path)}
    return CliRunner().invoke(main, ["warehouse", *arguments], env=environ)


def _fill(tmp_path: Path, **given: Any) -> None:
    warehouse = DeltaWarehouse(str(tmp_path / "warehouse"), tables_by_topic(str), cluster_id="one")
    warehouse.open([PARTITION])
    codec = lead_codec()
    row = codec.decode_plain(codec.encode(a_lead(lead_id="l1", **given)))
    warehouse.write({"leads": [{**row, "_topic": "leads", "_partition": 0, "_offset": 0}]}, {PARTITION: 1})


def test_an_empty_warehouse_is_an_empty_answer(tmp_path: Path) -> None:
    result = _sql(tmp_path, "select lead_id, answers from leads", "--format", "csv")

    assert (result.exit_code, result.output) == (0, "lead_id,answers\n")


def test_values_are_json_with_their_types(tmp_path: Path) -> None:
    query = "select 1 as n, null as nothing, [{'q': 'é'}] as l, timestamptz '2026-05-06 12:00:00Z' as at"

    result = _sql(tmp_path, query, "--format", "json")

    expected = [{"n": 1, "nothing": None, "l": [{"q": "é"}], "at": "2026-05-06T12:00:00+00:00"}]
    assert json.loads(result.output) == expected


def test_a_table_says_how_many_rows_it_has(tmp_path: Path) -> None:
    result = _sql(tmp_path, "select 42 as answer")

    assert result.exit_code == 0
    assert "answer" in result.output
    assert "1 rows" in result.output


@pytest.mark.parametrize(
    "query", ["selec 1", "drop view leads", "select * from read_csv('/etc/hostname')", "copy leads to 'leads.csv'"]
)
def test_what_is_not_a_question_to_the_warehouse_is_refused_in_one_message(tmp_path: Path, query: str) -> None:
    result = _sql(tmp_path, query)

    assert result.exit_code == 1
    assert result.output.startswith("Error: ")
    assert "Traceback" not in result.output


def test_whole_numbers_stay_numbers_whatever_the_engine_sums_them_in(tmp_path: Path) -> None:
    result = _sql(
        tmp_path, "select sum(n) as n, 1.5::decimal(4, 2) as half from (values (1), (2)) t(n)", "--format", "json"
    )

    assert json.loads(result.output) == [{"n": 3, "half": 1.5}]


@pytest.mark.parametrize(
    "text",
    [
        "=1+1",
        "+1",
        "-1",
        "@now",
        "\t=1",
        "\ufeff=1",
        "\u200b=1",
        "\x1b=1",
        "\r=1",
        "\n=1",
        "\uff1d1+1",
        "\uff0b1",
        "\uff0d1",
        "\uff20now",
    ],
)
def test_text_that_a_spreadsheet_would_run_is_only_text_in_csv(tmp_path: Path, text: str) -> None:
    result = _sql(tmp_path, f"select '{text}' as said, -1 as n", "--format", "csv")

    [row] = csv.DictReader(io.StringIO(result.output, newline=""))
    assert row["said"].startswith("'")
    assert row["said"].replace("'", "") == text.replace("\r", "\n")
    assert row["n"] == "-1"


def _split_at_semicolons(text: str) -> list[str]:
    """The cells that a European spreadsheet sees: its separator is the semicolon, whatever wrote the file."""
    return [cell for row in csv.reader(io.StringIO(text, newline=""), delimiter=";") for cell in row]


@pytest.mark.parametrize(
    "text", ["x;=1+1", 'x;"=1+1', "x; -1", "x\n@now", "x\t+1", "x\r=1+1", 'x";=1+1', "x;;=1+1", "a,b;=1", "x;\uff1d1"]
)
@pytest.mark.parametrize("nested", [False, True])
def test_no_cell_of_a_european_spreadsheet_is_a_formula(tmp_path: Path, text: str, *, nested: bool) -> None:
    expression = f"['{text}']" if nested else f"'{text}'"

    result = _sql(tmp_path, f"select 'first' as a, {expression} as said, 'last' as z", "--format", "csv")

    assert result.exit_code == 0, result.output
    starts = [cell.strip(' "\t')[:1] for cell in _split_at_semicolons(result.output)]
    assert not set(starts) & set("=+-@\uff1d")
    assert len(list(csv.reader(io.StringIO(result.output, newline="")))) == 2


def test_programs_get_the_cells_as_they_are(tmp_path: Path) -> None:
    result = _sql(tmp_path, "select '=1;-2' as said", "--format", "csv", "--cells", "raw")

    assert result.output == "said\n=1;-2\n"


@pytest.mark.parametrize(
    ("cells", "written"),
    [("safe", f"{PERSON},1234567890123456,15"), ("text-ids", f"'{PERSON},'1234567890123456,15")],
)
def test_long_ids_are_text_if_asked(tmp_path: Path, cells: str, written: str) -> None:
    query = f"select '{PERSON}' as psid, 1234567890123456 as n, 15 as few"

    assert _sql(tmp_path, query, "--format", "csv", "--cells", cells).output == f"psid,n,few\n{written}\n"


def test_a_file_of_raw_cells_has_no_mark(tmp_path: Path) -> None:
    _fill(tmp_path, answers=(Answer("City?", "=cmd()"),))
    file = tmp_path / "answers.csv"

    assert _run(tmp_path, "export", "lead_answers", str(file), "--cells", "raw").exit_code == 0

    [row] = csv.DictReader(file.read_text(encoding="utf-8").splitlines())
    assert row["answer"] == "=cmd()"


def test_bytes_that_a_spreadsheet_would_run_are_only_text_in_csv(tmp_path: Path) -> None:
    result = _sql(tmp_path, "select '=1+1'::blob as said", "--format", "csv")

    assert result.output == "said\n'=1+1\n"


def test_a_number_that_json_does_not_have_is_its_name(tmp_path: Path) -> None:
    result = _sql(
        tmp_path, "select 'nan'::double as n, [{'i': '-inf'::double}] as l, 0.5::double as h", "--format", "json"
    )

    assert json.loads(result.output, parse_constant=pytest.fail) == [{"n": "nan", "l": [{"i": "-inf"}], "h": 0.5}]


def test_json_does_not_drop_a_column_whose_name_another_has(tmp_path: Path) -> None:
    result = _sql(tmp_path, "select 1 as n, 2 as n", "--format", "json")

    assert (result.exit_code, result.output) == (
        1,
        "Error: n: duplicate column; give each its own name with `as`\n",
    )


def test_a_table_shows_what_a_terminal_would_obey(tmp_path: Path) -> None:
    result = _sql(tmp_path, """select chr(27) || '[31mred' as "[/x]", chr(155) || 'b' as c""")

    assert result.exit_code == 0, result.output
    assert "[/x]" in result.output
    assert r"\u001b[31mred" in result.output
    assert r"\u009bb" in result.output
    assert "\x1b" not in result.output


def test_a_table_in_a_pipe_is_not_cut(tmp_path: Path) -> None:
    _fill(tmp_path)

    result = _sql(tmp_path, "select * from leads")

    assert PERSON in result.output
    assert "messaging_window_closes_at" in result.output


def test_a_table_is_exported_as_csv(tmp_path: Path) -> None:
    _fill(tmp_path, answers=(Answer("City?", "=cmd()"), Answer("When?", "9:30")))
    file = tmp_path / "answers.csv"

    result = _run(tmp_path, "export", "lead_answers", str(file))

    assert result.exit_code == 0, result.output
    assert file.read_bytes().startswith(b"\xef\xbb\xbf"), "Excel knows by it that the file is UTF-8"
    rows = list(csv.DictReader(file.read_text(encoding="utf-8-sig").splitlines()))
    assert {row["question"]: row["answer"] for row in rows} == {"City?": "'=cmd()", "When?": "9:30"}
    assert file.stat().st_mode & 0o077 == 0


def test_an_export_says_how_far_it_is(tmp_path: Path) -> None:
    _fill(tmp_path)

    result = _run(tmp_path, "export", "leads", str(tmp_path / "leads.jsonl"))

    assert "1 rows" in result.stdout
    assert "rows written" in result.stderr


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_an_export_that_does_not_end_leaves_nothing_behind(tmp_path: Path, suffix: str) -> None:
    _fill(tmp_path)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        result = _run(tmp_path, "export", "leads", str(tmp_path / f"leads.{suffix}"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)

    assert (result.exit_code, f"leads.{suffix} cannot be written: " in result.output) == (1, True)
    assert "File too large" in result.output
    assert not list(tmp_path.glob("leads.*"))


def test_an_export_follows_no_link_that_somebody_put_there(tmp_path: Path) -> None:
    _fill(tmp_path)
    elsewhere = tmp_path / "elsewhere"
    (tmp_path / "leads.csv.part").symlink_to(elsewhere)

    result = _run(tmp_path, "export", "leads", str(tmp_path / "leads.csv"))

    assert result.exit_code == 0, result.output
    assert not elsewhere.exists()


def test_what_is_personal_is_masked_where_that_is_asked_for(tmp_path: Path) -> None:
    _fill(tmp_path, psid="705551", answers=(Answer("City?", "Menlo Park"),), summary_text="City?: Menlo Park")
    file = tmp_path / "leads.jsonl"

    _run(tmp_path, "export", "leads", str(file), "--mask-pii")

    text = file.read_text()
    [row] = map(json.loads, text.splitlines())
    assert (row["lead_id"], row["psid"], row["answers"], row["summary_text"]) == ("l1", "•••", ["•••"], "•••")
    assert "705551" not in text
    assert "Menlo" not in text


def test_an_empty_table_is_a_header(tmp_path: Path) -> None:
    _fill(tmp_path)
    file = tmp_path / "dead.csv"

    _run(tmp_path, "export", "dead_letters", str(file))

    assert file.read_text(encoding="utf-8-sig").startswith("topic,partition,offset,stage")


@pytest.mark.parametrize(
    ("file", "saying"),
    [
        ("leads.xlsx", "ends neither in .csv nor in .jsonl nor in .parquet"),
        ("there.csv", "exists already"),
        ("no/l.csv", "cannot be"),
    ],
)
def test_a_file_that_cannot_be_is_refused_in_one_line(tmp_path: Path, file: str, saying: str) -> None:
    _fill(tmp_path)
    (tmp_path / "there.csv").write_text("mine")

    result = _run(tmp_path, "export", "leads", str(tmp_path / file))

    assert result.exit_code == 1
    assert result.output.startswith("Error: ")
    assert saying in result.output
    assert (tmp_path / "there.csv").read_text() == "mine"


def test_the_status_says_what_is_there_even_without_kafka(tmp_path: Path) -> None:
    _fill(tmp_path)

    result = _run(tmp_path, "status", "--json")

    said = json.loads(result.output)
    rows = {table["name"]: (table["rows"], table["files"]) for table in said["tables"]}
    assert rows["lead_events"] == (1, 1)
    assert rows["dead_letter_records"] == (0, 0)
    assert (said["cluster_id"], said["offsets"], said["lag"]) == ("one", {"leads": 1}, None)


@pytest.mark.parametrize("is_there", [False, True])
@pytest.mark.parametrize("arguments", [("sql", "select 1"), ("export", "leads", "leads.csv"), ("status",)])
def test_a_place_without_a_warehouse_is_not_an_empty_warehouse(
    tmp_path: Path, arguments: tuple[str, ...], *, is_there: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if is_there:
        (tmp_path / "warehouse").mkdir()

    result = _run(tmp_path, *arguments)

    assert result.exit_code == 1
    assert result.output.splitlines()[-1].startswith(f"Error: there is no warehouse at {tmp_path / 'warehouse'}")
    assert list(tmp_path.glob("leads*")) == []


@pytest.mark.parametrize("arguments", [("sql", "select 1"), ("export", "leads", "leads.csv"), ("status",)])
@pytest.mark.parametrize("broken", ["log", "file"])
def test_a_warehouse_that_cannot_be_read_is_told_in_one_line(
    tmp_path: Path, arguments: tuple[str, ...], broken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if broken == "file":
        (tmp_path / "warehouse").write_text("")
    else:
        _fill(tmp_path)
        for commit in (tmp_path / "warehouse" / "leads" / "_delta_log").glob("*.json"):
            commit.write_text("{garbage")

    result = _run(tmp_path, *arguments)

    assert result.exit_code == 1
    assert result.output.splitlines()[-1].startswith(f"Error: the warehouse at {tmp_path / 'warehouse'} cannot be read")
    assert list(tmp_path.glob("leads*")) == []


def test_the_status_of_a_warehouse_is_whole_on_a_narrow_terminal_and_without_kafka(tmp_path: Path) -> None:
    _fill(tmp_path)
    environ = {"LEADSTREAM_WAREHOUSE": str(tmp_path / "warehouse"), "LEADSTREAM_BROKER": "127.0.0.1:1", "COLUMNS": "80"}

    result = CliRunner().invoke(main, ["warehouse", "status"], env=environ)

    assert result.exit_code == 0, result.output
    assert re.search(r"lead_events +│ 1 +│ \d+ +│ 1 +│ \d{4}-\d\d-\d\d \d\d:\d\d:\d\d │", result.output), result.output
    assert result.output.splitlines()[-1] == "Kafka does not answer: the lag is unknown"


def test_ctrl_c_ends_a_query_that_takes_for_ever(tmp_path: Path) -> None:
    _fill(tmp_path)
    query = "select sum(a.range * b.range) from range(10000000) a, range(1000000) b"
    program = (
        "import os, signal, sys, threading; from cli.main import main;"
        "threading.Timer(2, os.kill, (os.getpid(), signal.SIGINT)).start(); main(['warehouse', 'sql', sys.argv[1]])"
    )
    environ = {**os.environ, "LEADSTREAM_WAREHOUSE": str(tmp_path / "warehouse")}

    done = subprocess.run(
        [sys.executable, "-c", program, query], env=environ, capture_output=True, text=True, timeout=60, check=False
    )

    assert (done.returncode, done.stderr) == (1, "\nAborted!\n")


@pytest.mark.parametrize("blank", ["\n", "\t", ";\n", " \n", '"\n'])
def test_a_long_blank_is_read_once(blank: str) -> None:
    """A second look at each place would take minutes for a cell that a webhook can bring."""
    text = blank * 1_000_000

    assert csv_cell(f"x{text}y") == f"x{text}y"
    assert csv_cell(f"x{blank * 3}=y").endswith("'=y")
