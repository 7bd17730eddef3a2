"""`leadstream followups check`: good rules are counted, a fault is one line with its place."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from cli.main import main

GOOD = """
caps: {per_person: 3}
rules:
  - {name: thanks, send: {text: Thanks}}
  - name: course
    steps:
      - send: {text: one}
      - {after: 2h, send: {text: two}}
"""


@pytest.fixture
def run(tmp_path: Path) -> CliRunner:
    home = {name: str(tmp_path / file) for name, file in (("FOLLOWUPS", "followups.yaml"), ("PAGES", "pages.yaml"))}
    return CliRunner(env={f"LEADSTREAM_{name}": value for name, value in home.items()})


def test_good_rules_are_listed(run: CliRunner, tmp_path: Path) -> None:
    (tmp_path / "followups.yaml").write_text(GOOD)

    result = run.invoke(main, ["followups", "check"])

    assert result.exit_code == 0
    assert result.output == f"thanks: 1 step\ncourse: 2 steps\n{tmp_path}/followups.yaml: 2 rules, no faults\n"


@pytest.mark.parametrize(
    ("cancel_on", "told"),
    [("reply", "it is never sent"), ("human", "it is sent only if the person writes again")],
)
def test_a_step_past_the_messaging_window_is_told(run: CliRunner, tmp_path: Path, cancel_on: str, told: str) -> None:
    steps = "[{after: 20h, send: {text: one}}, {after: 4h, send: {text: two}}]"
    rules = f"rules: [{{name: late, cancel_on: [{cancel_on}], steps: {steps}}}]"
    (tmp_path / "followups.yaml").write_text(rules)

    result = run.invoke(main, ["followups", "check"])

    assert result.exit_code == 0
    assert result.output.splitlines()[:-1] == [
        "late: 2 steps",
        f"  step 2, 24 hours later, is past the 24-hour window: {told}",
    ]


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ("wait_for: handover, send: {text: Hi}", "it waits for the handover: on a Page that gets none it never acts"),
        ('send: {text: "Hi {answers[City?]|you}"}', "step 1 names answers and does not wait for them"),
    ],
)
def test_a_wait_that_never_ends_or_is_missing_is_told(run: CliRunner, tmp_path: Path, keys: str, told: str) -> None:
    (tmp_path / "followups.yaml").write_text(f"rules: [{{name: x, {keys}}}]")

    result = run.invoke(main, ["followups", "check"])

    assert result.exit_code == 0
    assert result.output.splitlines()[1].startswith(f"  {told}")
    assert result.output.count("\n") == 3


def test_a_rule_that_waits_for_the_answers_that_it_names_is_fine(run: CliRunner, tmp_path: Path) -> None:
    (tmp_path / "followups.yaml").write_text('rules: [{name: x, wait_for: answers, send: {text: "{answers[A]|you}"}}]')

    assert run.invoke(main, ["followups", "check"]).output.count("\n") == 2


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("rules:\n  - {name: a, sned: {text: b}}", 2, "rules: unknown key 'sned'"),
        ("rules: []\ncaps: {per_person: none}", 2, "per_person: expected a whole number from 1"),
    ],
)
def test_a_fault_is_one_line_with_file_and_line(
    run: CliRunner, tmp_path: Path, text: str, line: int, said: str
) -> None:
    (tmp_path / "followups.yaml").write_text(text)

    result = run.invoke(main, ["followups", "check"])

    assert result.exit_code == 1
    assert result.output.startswith(f"Error: {tmp_path}/followups.yaml:{line}: {said}")
    assert result.output.count("\n") == 1


def test_missing_rules_name_the_setting(run: CliRunner) -> None:
    result = run.invoke(main, ["followups", "check"])

    assert result.exit_code == 1
    assert "see LEADSTREAM_FOLLOWUPS" in result.output
