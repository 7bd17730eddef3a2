"""`leadstream doctor` refuses bad options and missing settings before it asks anything."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from cli.main import main

CALLBACK = "https://hooks.test/webhooks/messenger"


@pytest.mark.parametrize(
    ("environ", "arguments", "status", "said"),
    [
        ({"LEADSTREAM_APP_ID": ""}, [], 1, "LEADSTREAM_APP_ID is not set"),
        ({"LEADSTREAM_APP_SECRET": ""}, [], 1, "LEADSTREAM_APP_SECRET is not set"),
        ({}, ["--page", "5"], 1, "has no Page 5"),
        ({}, ["--callback-url", CALLBACK], 2, "--callback-url goes with --fix"),
        ({}, ["--fix", "--callback-url", "hooks.test"], 2, "expected an address such as https://…"),
        ({}, ["--stage", "ingest"], 2, "expected NAME=URL such as ingest=http://ingest:8001, not 'ingest'"),
        ({}, ["--stage", "=http://ingest:8001"], 2, "expected NAME=URL"),
        ({}, ["--stage", "ingest=ingest:8001"], 2, "expected NAME=URL"),
    ],
)
def test_what_is_missing_is_named_before_anything_is_asked(
    tmp_path: Path, environ: dict[str, str], arguments: list[str], status: int, said: str
) -> None:
    told = {"LEADSTREAM_APP_ID": "1", "LEADSTREAM_APP_SECRET": "planted", "LEADSTREAM_VERIFY_TOKEN": "planted"}
    given = {**told, "LEADSTREAM_PAGES": str(tmp_path / "pages.yaml"), **environ}

    result = CliRunner().invoke(main, ["doctor", *arguments], env=given)

    assert result.exit_code == status
    assert said in result.output
    assert "planted" not in result.output
