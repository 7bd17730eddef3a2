"""`leadstream ingest` refuses to start on what is missing or wrong, in one line."""

import pytest
from click.testing import CliRunner

from cli.main import main
from runtime.bounded_http import PINS

GOOD = {"LEADSTREAM_APP_ID": "1", "LEADSTREAM_APP_SECRET": "planted", "LEADSTREAM_VERIFY_TOKEN": "planted"}


@pytest.mark.parametrize(
    ("environ", "arguments", "status", "said"),
    [
        pytest.param({**GOOD, "LEADSTREAM_APP_ID": ""}, [], 1, "LEADSTREAM_APP_ID is not set", id="app"),
        pytest.param(
            {**GOOD, "LEADSTREAM_APP_ID": "planted"}, [], 1, "LEADSTREAM_APP_ID must be the number", id="no id"
        ),
        pytest.param({**GOOD, "LEADSTREAM_APP_SECRET": ""}, [], 1, "LEADSTREAM_APP_SECRET is not set", id="secret"),
        pytest.param({**GOOD, "LEADSTREAM_VERIFY_TOKEN": ""}, [], 1, "LEADSTREAM_VERIFY_TOKEN is not set", id="token"),
        pytest.param({**GOOD, "LEADSTREAM_PORT": "http"}, [], 1, "LEADSTREAM_PORT must be a whole number", id="port"),
        pytest.param(
            {**GOOD, "LEADSTREAM_RECEIPTS": "/proc/none/receipts.log"},
            [],
            1,
            "LEADSTREAM_RECEIPTS: /proc/none/receipts.log cannot be written: No such file",
            id="receipts",
        ),
        pytest.param(GOOD, ["--port", "70000"], 2, "70000 is not in the range", id="option"),
    ],
)
def test_what_is_wrong_is_named(environ: dict[str, str], arguments: list[str], status: int, said: str) -> None:
    result = CliRunner().invoke(main, ["ingest", *arguments], env=environ)

    assert result.exit_code == status
    assert said in result.output.splitlines()[-1]
    assert "planted" not in result.output


def test_another_uvicorn_is_refused_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PINS, "uvicorn", "0.0.1")

    result = CliRunner().invoke(main, ["ingest"], env=GOOD)

    assert result.exit_code == 1
    assert "needs exactly 0.0.1: run `pip install uvicorn==0.0.1`" in result.output
    assert result.output.count("\n") == 1


def test_help_shows_an_example() -> None:
    assert "leadstream ingest --port 8080" in CliRunner().invoke(main, ["ingest", "--help"]).output
