"""Nothing that is printed moves a terminal, and JSON stays JSON."""

import json
from pathlib import Path

import pytest
from aiokafka.errors import InvalidTopicError
from click import ClickException
from click.testing import CliRunner

from cli.backfill_report import BackfillReport
from cli.main import main
from cli.replay_report import show_differences
from cli.terminal import cell, lead_columns, one_line, print_json, run, say, visible
from leads.diff import differences
from leads.gaps import Finding
from messenger.events import Ad, Answer
from messenger.lead_flow import LeadFlow
from streams.replay.shadow import Comparison
from tests.builders import NOON, PAGE, PERSON, a_lead
from tests.hostile import TEXT, assert_harmless

ANSWER = Answer("owned?", TEXT)


def test_what_a_terminal_would_obey_is_an_escape() -> None:
    assert visible("a\x1b[31m\x9bb\x7f\r\t\u202e\u2066\u2028\ud83d") == (
        r"a\u001b[31m\u009bb\u007f\u000d\u0009\u202e\u2066\u2028\ud83d"
    )
    assert visible("Ümläut مرحبا 👍\u200f\n•") == "Ümläut مرحبا 👍\u200f\n•"
    assert one_line("a\nb") == r"a\u000ab"
    assert cell("[red]\x1b").plain == r"[red]\u001b"


def test_json_stays_json(capsys: pytest.CaptureFixture[str]) -> None:
    value = {"title": TEXT, "half": "\ud83d"}

    print_json(json.dumps(value, ensure_ascii=False, indent=2))

    printed = capsys.readouterr().out
    assert_harmless(printed)
    assert json.loads(printed) == value


@pytest.mark.parametrize(
    "arguments", [[TEXT], ["dlq", "list", "--topic", TEXT], ["streams", "--skip", TEXT.replace("\n", "")]]
)
def test_an_error_that_quotes_is_harmless(arguments: list[str]) -> None:
    assert_harmless(CliRunner().invoke(main, arguments).output)


def test_the_name_of_a_refused_topic_is_shown() -> None:
    def refuse() -> None:
        raise InvalidTopicError("no name")

    with pytest.raises(ClickException) as fault:
        run(refuse)

    assert fault.value.message == "Kafka takes no topic of the name no name: see LEADSTREAM_TOPIC_PREFIX"


@pytest.mark.parametrize("arguments", [["kafka", "start"], ["kafka", "status"], ["kafka", "stop"], ["leads", "list"]])
def test_a_place_that_is_no_directory_is_named_in_one_line(arguments: list[str], tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")

    result = CliRunner(env={"LEADSTREAM_STATE_DIR": f"{tmp_path}/taken"}).invoke(main, arguments)

    assert result.exit_code == 1
    assert result.output.startswith(f"Error: {tmp_path}/taken")
    assert "Not a directory" in result.output
    assert result.output.count("\n") == 1


@pytest.mark.parametrize("arguments", [["topics", "apply"], ["topics", "list"], ["leads", "list"], ["doctor"]])
def test_a_setting_with_a_fault_ends_a_command_with_one_line(arguments: list[str]) -> None:
    result = CliRunner(env={"LEADSTREAM_BROKER": "host:notanumber"}).invoke(main, arguments)

    assert result.exit_code == 1
    assert result.output.startswith("Error: LEADSTREAM_BROKER must be host:port")
    assert result.output.count("\n") == 1


@pytest.mark.parametrize("key", ["when", "send"])
def test_a_fault_that_quotes_yaml_is_harmless(key: str, tmp_path: pytest.TempPathFactory) -> None:
    file = f"{tmp_path}/followups.yaml"
    quoted = json.dumps(TEXT)
    with open(file, "w") as out:
        out.write(f"rules:\n  - name: x\n    {key}: {{{quoted}: 1}}\n")

    result = CliRunner().invoke(main, ["followups", "check"], env={"LEADSTREAM_FOLLOWUPS": file})

    assert result.exit_code == 1
    assert_harmless(result.output)


def test_a_lead_is_one_line_whatever_its_ad_is_called(capsys: pytest.CaptureFixture[str]) -> None:
    lead = a_lead(ad=Ad(ad_title=TEXT), answers=(ANSWER,), psid=TEXT)

    say("  ".join(lead_columns(lead, show_pii=True).values()))

    printed = capsys.readouterr().out
    assert_harmless(printed)
    assert printed.count("\n") == 1


def test_differences_of_a_replay_are_harmless(capsys: pytest.CaptureFixture[str]) -> None:
    live, replayed = a_lead(), a_lead(ad=Ad(ad_title=TEXT), answers=(ANSWER,))
    found = differences({live.lead_id: live}, {replayed.lead_id: replayed})

    show_differences(Comparison(found, 1, 0), show_pii=True)

    assert_harmless(capsys.readouterr().out)


@pytest.mark.parametrize("as_json", [False, True])
def test_what_backfill_finds_is_harmless(capsys: pytest.CaptureFixture[str], *, as_json: bool) -> None:
    flow = LeadFlow(
        outcome="complete",
        answers=(ANSWER,),
        answered_at=NOON,
        answer_mid="m_1",
        ended_at=NOON,
        is_cut=False,
        is_proven=True,
    )

    BackfillReport(as_json=as_json, show_pii=True).found(
        Finding(standing="missing", page_id=PAGE, psid=PERSON, at=NOON, flow=flow)
    )

    assert_harmless(capsys.readouterr().out)
