"""`leadstream backfill` refuses bad options in one line."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from cli.main import main
from tests.builders import PAGE

PAGES_YAML = f'pages: {{"{PAGE}": {{access_token: t0ken}}, "1": {{}}}}'


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pages.yaml").write_text(PAGES_YAML)
    (tmp_path / "empty.json").write_text('{"message": {}}')
    return tmp_path


@pytest.mark.usefixtures("place")
@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], "no access_token for Page 1"),
        (["--page", "7"], "has no Page 7"),
        (["--page", PAGE], "--from is missing"),
        (["--page", PAGE, "--from", "12"], "expected a time such as"),
        (["--page", PAGE, "--from", "2026-03-02", "--to", "2026-03-01"], "--from is not before --to"),
        (["--page", PAGE, "--from", "2026-03-02", "--template", "empty.json"], "has no step_list that asks"),
        (["--page", PAGE, "--from", "2026-03-02", "--every", "24"], "--every goes without"),
        (["--page", PAGE, "--from", "2026-03-02"], "no Kafka"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(options: list[str], said: str) -> None:
    result = CliRunner().invoke(main, ["backfill", *options])

    assert result.exit_code != 0
    assert said in result.output
    assert "Traceback" not in result.output
    assert "t0ken" not in result.output
