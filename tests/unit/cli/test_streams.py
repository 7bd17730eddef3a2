"""`leadstream streams` refuses to start on what is missing or wrong, in one line."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from cli.main import main


@pytest.mark.parametrize(
    ("environ", "arguments", "status", "said"),
    [
        pytest.param({"LEADSTREAM_PARTITIONS": "0"}, [], 1, "LEADSTREAM_PARTITIONS must be a whole number", id="env"),
        pytest.param({}, [], 1, "no Kafka: run `leadstream kafka start`", id="no-kafka"),
        pytest.param(
            {"LEADSTREAM_BROKER": "127.0.0.1:1"}, [], 1, "Kafka does not answer at 127.0.0.1:1", id="dead-kafka"
        ),
        pytest.param({}, ["--workers", "0"], 2, "0 is not in the range", id="workers"),
        pytest.param(
            {},
            ["--workers", "3", "--admin-port", "65400"],
            1,
            "65600 for health and metrics of streams worker 2 is above 65535",
            id="ports",
        ),
    ],
)
def test_what_is_wrong_is_named(
    tmp_path: Path, environ: dict[str, str], arguments: list[str], status: int, said: str
) -> None:
    always = {"LEADSTREAM_STATE_DIR": str(tmp_path), "LEADSTREAM_BROKER": ""}

    result = CliRunner().invoke(main, ["streams", *arguments], env={**always, **environ})

    assert result.exit_code == status
    assert said in result.output.splitlines()[-1]


def test_help_shows_an_example() -> None:
    assert "leadstream streams --workers 2" in CliRunner().invoke(main, ["streams", "--help"]).output
