"""Each snippet of docs/client.md as a program of its own, on a real Kafka, and the examples that are whole programs."""

import asyncio
import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from docs.generate import DOCS
from leads.records import Lead
from runtime.clock import now
from runtime.settings import Settings
from schemas.codec import command_codec, lead_codec, stage_codec
from tests.builders import CITY, RESELLER, a_lead
from tests.integration.topics import environ_of, put, records_of

pytestmark = pytest.mark.integration

ROOT = DOCS.parent
LEAD = replace(a_lead(lead_id="l1"), messaging_window_closes_at=now() + timedelta(hours=20))
READ, READ_ASYNC, GO_ON, FOLLOW_UP, STAGE, CONNECT = re.findall(
    r"```python\n(.*?)```", (DOCS / "client.md").read_text(encoding="utf-8"), re.DOTALL
)


def test_reading_and_writing_take_ten_lines_each() -> None:
    lines = {
        snippet: [line for line in snippet.splitlines() if line] for snippet in (READ, READ_ASYNC, FOLLOW_UP, STAGE)
    }

    assert all(len(counted) <= 10 for counted in lines.values())


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
def test_leads_are_read_until_the_program_is_ended(kafka_topics: Settings, tmp_path: Path, end: signal.Signals) -> None:
    _put(kafka_topics, (b"l1", lead_codec().encode(LEAD)), (b"l2", None))
    as_interrupt = "import signal\nsignal.signal(signal.SIGTERM, signal.default_int_handler)\n"

    shown, status = _ended(kafka_topics, tmp_path, as_interrupt + READ, end, 2)

    assert sorted(shown) == [f"l1 1 complete {(RESELLER, CITY)}", "l2 was erased: delete what you hold of it"]
    assert status == -signal.SIGINT
    # Processed records are committed.
    _put(kafka_topics, (b"l3", None))
    assert _ended(kafka_topics, tmp_path, READ, signal.SIGINT, 1)[0] == ["l3 was erased: delete what you hold of it"]


def test_leads_are_read_in_an_event_loop(kafka_topics: Settings, tmp_path: Path) -> None:
    _put(kafka_topics, (b"l1", lead_codec().encode(LEAD)))

    shown, status = _ended(kafka_topics, tmp_path, READ_ASYNC, signal.SIGINT, 1)

    assert re.fullmatch(r"l1 [01] 0", shown[0])
    assert status == -signal.SIGINT


def test_a_program_goes_on_behind_what_is_no_lead(kafka_topics: Settings, tmp_path: Path) -> None:
    _put(kafka_topics, (b"l1", b"nonsense"), (b"l1", None))

    shown, _ = _ended(kafka_topics, tmp_path, GO_ON, signal.SIGINT, 2)

    assert re.fullmatch(r"\S+leads/[01]: the record at offset 0 cannot be read: not_wire_format", shown[0])
    assert shown[1:] == ["l1"]


def test_a_complete_lead_is_followed_up_once(kafka_topics: Settings, tmp_path: Path) -> None:
    dropped = replace(LEAD, lead_id="l2", outcome="incomplete")
    _put(kafka_topics, *_encoded(LEAD, replace(LEAD, revision=2), dropped))

    _run(kafka_topics, tmp_path, FOLLOW_UP)

    commands = [command_codec().decode(record.value) for record in _records(kafka_topics, "followup-commands")]
    assert {(command.lead_id, command.rule, command.message.text) for command in commands} == {
        ("l1", "card", "This is for you:")
    }
    assert len({command.command_id for command in commands}) == 1


def test_a_stage_is_reported(kafka_topics: Settings, tmp_path: Path) -> None:
    _run(kafka_topics, tmp_path, STAGE)

    [record] = _records(kafka_topics, "lead-stages")
    stage = stage_codec().decode(record.value)
    assert (record.key.decode(), stage.stage, stage.source) == (stage.lead_id, "QualifiedLead", "crm")


def test_settings_are_passed(kafka_topics: Settings, tmp_path: Path) -> None:
    _put(kafka_topics, *_encoded(LEAD), (b"l2", None))
    here = CONNECT.replace("kafka.example.com:9092", str(kafka_topics.broker)).replace(
        "prod-", kafka_topics.topic_prefix
    )

    assert _run(kafka_topics, tmp_path, here, {}) == "1 records with a lead\n"


def test_the_example_that_follows_goes_on_where_it_stopped(kafka_topics: Settings, tmp_path: Path) -> None:
    _put(kafka_topics, *_encoded(LEAD))
    # Kafka tells moments apart by milliseconds.
    time.sleep(0.05)
    since = now().isoformat()
    program = (ROOT / "examples" / "follow_since.py").read_text(encoding="utf-8")
    arguments = [f"{kafka_topics.topic_prefix}mine", since]

    _put(kafka_topics, *_encoded(replace(LEAD, lead_id="l2")), (b"l3", None))
    first, status = _ended(kafka_topics, tmp_path, program, signal.SIGTERM, 2, arguments)
    _put(kafka_topics, *_encoded(replace(LEAD, lead_id="l4")))
    second, _ = _ended(kafka_topics, tmp_path, program, signal.SIGTERM, 1, arguments)

    assert status == 0
    assert {json.loads(line)["lead"] for line in first} == {"l2", "l3"}
    assert [json.loads(line)["lead"] for line in second] == ["l4"]


def _encoded(*leads: Lead) -> list[tuple[bytes, bytes | None]]:
    return [(lead.lead_id.encode(), lead_codec().encode(lead)) for lead in leads]


def _put(settings: Settings, *records: tuple[bytes, bytes | None]) -> None:
    asyncio.run(put(settings, settings.topic("leads"), *records))


def _records(settings: Settings, topic: str) -> list[Any]:
    return list(asyncio.run(records_of(settings, settings.topic(topic))))


def _program(settings: Settings, home: Path, text: str) -> Path:
    path = home / "program.py"
    # Each test has groups of its own.
    path.write_text(re.sub(r'group="(\w+)"', rf'group="{settings.topic_prefix}\1"', text))
    return path


def _environ(settings: Settings) -> dict[str, str]:
    return {"PATH": "/usr/bin:/bin", "PYTHONUNBUFFERED": "1", **environ_of(settings)}


def _run(settings: Settings, home: Path, text: str, environ: Mapping[str, str] | None = None) -> str:
    done = subprocess.run(
        [sys.executable, _program(settings, home, text)],
        cwd=home,
        env=_environ(settings) if environ is None else environ,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def _ended(
    settings: Settings, home: Path, text: str, end: signal.Signals, lines: int, arguments: list[str] | None = None
) -> tuple[list[str], int]:
    """The output of a program that is ended after this many lines, and its status."""
    with subprocess.Popen(
        [sys.executable, _program(settings, home, text), *(arguments or [])],
        cwd=home,
        env=_environ(settings),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as running:
        assert running.stdout is not None
        shown = [running.stdout.readline().rstrip("\n") for _ in range(lines)]
        # It asks for the next record.
        time.sleep(0.5)
        running.send_signal(end)
        rest, errors = running.communicate(timeout=60)
    assert rest == ""
    assert "KeyboardInterrupt" in errors or not errors
    return shown, running.returncode
