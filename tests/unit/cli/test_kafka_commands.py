"""The kafka and topics commands where no Kafka runs: one clear line, and a status that scripts can use."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from cli.main import main

NOBODY = "127.0.0.1:1"


@pytest.fixture
def run(tmp_path: Path) -> CliRunner:
    return CliRunner(env={"LEADSTREAM_STATE_DIR": str(tmp_path), "LEADSTREAM_BROKER": "", "PATH": str(tmp_path)})


@pytest.mark.parametrize("arguments", [["topics", "list"], ["topics", "apply"], ["topics", "apply", "--check"]])
def test_topics_without_a_kafka_name_the_command_that_starts_one(run: CliRunner, arguments: list[str]) -> None:
    result = run.invoke(main, arguments)

    assert result.exit_code == 1
    assert (
        result.output == "Error: no Kafka: run `leadstream kafka start`, or set LEADSTREAM_BROKER to the Kafka to use\n"
    )


@pytest.mark.parametrize("arguments", [["topics", "list"], ["topics", "apply"], ["kafka", "start"]])
def test_a_broker_that_does_not_answer_is_one_line(run: CliRunner, arguments: list[str]) -> None:
    result = run.invoke(main, arguments, env={"LEADSTREAM_BROKER": NOBODY})

    assert result.exit_code == 1
    assert result.output.startswith("Error: ")
    assert "LEADSTREAM_BROKER" in result.output
    assert result.output.count("\n") == 1


def test_start_without_java_is_one_line(run: CliRunner) -> None:
    result = run.invoke(main, ["kafka", "start"], env={"JAVA_HOME": ""})

    assert result.exit_code == 1
    assert "Kafka needs Java 17 or newer" in result.output
    assert "Traceback" not in result.output


def test_status_and_stop_without_a_node(run: CliRunner) -> None:
    status = run.invoke(main, ["kafka", "status"])
    stop = run.invoke(main, ["kafka", "stop"])

    assert (status.exit_code, status.output) == (1, "Kafka does not run here\n")
    assert (stop.exit_code, stop.output) == (0, "Kafka did not run\n")


@pytest.mark.parametrize("port", ["0", "65536", "many"])
def test_a_port_that_is_none_is_refused(run: CliRunner, port: str) -> None:
    assert run.invoke(main, ["kafka", "start", "--port", port]).exit_code == 2


def test_a_wrong_setting_is_named(run: CliRunner) -> None:
    result = run.invoke(main, ["topics", "list"], env={"LEADSTREAM_PARTITIONS": "some"})

    assert result.exit_code == 1
    assert result.output == "Error: LEADSTREAM_PARTITIONS must be a whole number from 1 to 10000\n"
