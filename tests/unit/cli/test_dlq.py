"""`leadstream dlq`, as far as it gets without Kafka."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from cli.main import main
from tests.conftest import free_port


@pytest.mark.parametrize("arguments", [["list"], ["show", "leads-dlq/0/0"], ["redrive", "--yes"]])
def test_a_kafka_that_does_not_answer_is_one_line(arguments: list[str], tmp_path: Path) -> None:
    environ = {"LEADSTREAM_STATE_DIR": str(tmp_path), "LEADSTREAM_BROKER": f"127.0.0.1:{free_port()}"}

    result = CliRunner().invoke(main, ["dlq", *arguments], env=environ)

    assert result.exit_code == 1
    assert result.output.startswith("Error: Kafka does not answer")
    assert result.output.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [["list", "--topic", "nonsense"], ["list", "--since", "yesterday"], ["redrive", "--limit", "0"], ["show"]],
)
def test_what_cannot_be_meant_is_refused(arguments: list[str]) -> None:
    assert CliRunner().invoke(main, ["dlq", *arguments]).exit_code == 2
