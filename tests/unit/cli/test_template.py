"""`leadstream template`: a new one can be used as it is, a faulty one is named by file, line and key."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from cli.main import main

SAMPLE = Path(__file__).parents[3] / "examples" / "message-template.json"


def template(*arguments: str, app: str = "") -> Result:
    return CliRunner().invoke(main, ["template", *arguments], env={"LEADSTREAM_APP_ID": app})


def test_the_sample_of_the_product_page_passes() -> None:
    result = template("check", str(SAMPLE))

    assert (result.exit_code, result.output) == (0, f"{SAMPLE} keeps Meta's limits\n")


def test_a_fault_is_told_with_file_line_and_key(tmp_path: Path) -> None:
    path = tmp_path / "template.json"
    path.write_text(SAMPLE.read_text().replace("Tell me more", "Tell me more about that"))

    result = template("check", str(path))

    assert result.exit_code == 1
    assert result.output.splitlines() == [
        f"{path}:15: fault: message.attachment.payload.buttons[1].title: 23 characters; Meta takes at most 20",
        f"Error: 1 to fix in {path}",
    ]


def test_a_warning_alone_is_no_failure(tmp_path: Path) -> None:
    path = tmp_path / "template.json"
    path.write_text(SAMPLE.read_text().replace('expiration": 4', 'expiration": 14'))

    result = template("check", str(path))

    assert result.exit_code == 0
    assert "warning: message.receiving_app_control_expiration: Meta's pages disagree" in result.output


def test_a_template_for_another_app_is_told() -> None:
    assert "your app is 5" in template("check", str(SAMPLE), app="5").output


def test_a_file_that_is_no_text_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "template.json"
    path.write_bytes(b"\xff\xfe")

    result = template("check", str(path))

    assert (result.exit_code, result.output) == (1, f"Error: {path} is not UTF-8 text\n")


def test_the_mark_of_a_windows_editor_is_no_part_of_the_template(tmp_path: Path) -> None:
    path = tmp_path / "template.json"
    path.write_bytes(b"\xef\xbb\xbf" + SAMPLE.read_bytes().replace(b"\n", b"\r\n"))

    assert template("check", str(path)).exit_code == 0


def test_a_file_that_is_far_too_large_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "template.json"
    path.write_bytes(b" " * (2**20 + 1))

    assert (
        template("check", str(path)).output == f"Error: {path}: larger than 1 MiB, the limit for a message template\n"
    )


def test_a_key_with_a_line_break_takes_no_second_line(tmp_path: Path) -> None:
    path = tmp_path / "template.json"
    path.write_text(SAMPLE.read_text().replace('"text"', r'"x\n\ud800": 1, "text"'))

    lines = template("check", str(path)).output.splitlines()

    assert len(lines) == 2
    assert lines[0].startswith(rf'{path}:7: warning: message.attachment.payload."x\n\ud800": Meta documents no')


def test_a_template_can_come_from_another_command() -> None:
    result = CliRunner().invoke(main, ["template", "check", "-"], input=SAMPLE.read_text())

    assert (result.exit_code, result.output) == (0, "- keeps Meta's limits\n")


def test_a_new_template_hands_its_leads_to_the_app_and_passes(tmp_path: Path) -> None:
    made = template(
        "new", "--text", "Hi", "--days", "4", "--button", "Shop=https://example.com/?a=b", "--button", "More=MORE",
        "--question", "Interested?=Yes|No", "--question", "Which city?", app="77",
    )  # fmt: skip
    path = tmp_path / "template.json"
    path.write_text(made.stdout)

    assert json.loads(made.stdout)["message"]["receiving_app_id"] == 77
    assert template("check", str(path), app="77").exit_code == 0
    assert [step["reply_type"] for step in json.loads(made.stdout)["step_list"]] == ["QUICK_REPLIES", "NONE"]


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        ([], 1, "--app or LEADSTREAM_APP_ID"),
        (["--app", "leads"], 1, "--app or LEADSTREAM_APP_ID"),
        (["--app", "0"], 1, "--app or LEADSTREAM_APP_ID"),
        (["--app", "7", "--button", "Shop=https://"], 1, "buttons[0].url"),
        (["--app", "7", "--question", "Interested?=Yes||No"], 1, "step_list[0].answers[1]: expected a text"),
        (["--app", "7", "--days", "8"], 2, "8 is not in the range"),
        (["--app", "7", "--button", "Shop"], 2, "TITLE=URL or TITLE=PAYLOAD"),
        (["--app", "7", "--button", f"{'x' * 21}=MORE"], 1, "buttons[0].title: 21 characters"),
    ],
)
def test_what_meta_would_refuse_is_not_made(arguments: list[str], status: int, said: str) -> None:
    result = template("new", "--text", "Hi", *arguments)

    assert result.exit_code == status
    assert said in result.output
