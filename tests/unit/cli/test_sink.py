"""`leadstream sink`, as far as it gets without Kafka."""

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from cli.main import main
from tests.conftest import free_port


def _sink(tmp_path: Path, *arguments: str, **environ: str) -> Result:
    given = {"LEADSTREAM_STATE_DIR": str(tmp_path), **{f"LEADSTREAM_{name}": value for name, value in environ.items()}}
    return CliRunner().invoke(main, ["sink", *arguments], env=given)


@pytest.mark.parametrize("name", ["send", "warehouse"])
def test_help_has_an_example(name: str, tmp_path: Path) -> None:
    assert f"leadstream sink {name}" in _sink(tmp_path, name, "--help").output.partition("Example:")[2]


@pytest.mark.parametrize("name", ["send", "warehouse"])
def test_a_sink_without_kafka_says_so_in_one_line(name: str, tmp_path: Path) -> None:
    result = _sink(tmp_path, name, "--admin-port", "0")

    assert result.exit_code == 1
    assert result.output.count("\n") == 1
    assert "leadstream kafka start" in result.output


@pytest.mark.parametrize("name", ["send", "warehouse"])
def test_a_kafka_that_does_not_answer_is_named(name: str, tmp_path: Path) -> None:
    result = _sink(tmp_path, name, "--admin-port", "0", BROKER=f"127.0.0.1:{free_port()}")

    assert result.exit_code == 1
    assert "Error: Kafka does not answer" in result.output


def test_a_wrong_pages_file_is_named_with_its_line(tmp_path: Path) -> None:
    pages = tmp_path / "pages.yaml"
    pages.write_text("pages:\n  '1':\n    acces_token: x\n")

    result = _sink(tmp_path, "send", "--admin-port", "0", BROKER="127.0.0.1:9", PAGES=str(pages))

    assert result.exit_code == 1
    assert f"{pages}:3" in result.output


def test_a_quarantine_must_be_positive(tmp_path: Path) -> None:
    assert _sink(tmp_path, "send", "--quarantine", "0").exit_code == 2
