"""The commands of docs/operating.md that end by themselves, run on a real Kafka as the page has them."""

import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from cli.main import main
from docs.generate import DOCS
from runtime.settings import Settings, variable
from sinks.warehouse.delta.warehouse import DeltaWarehouse
from sinks.warehouse.tables import tables_by_topic
from tests.contract.operating_commands import Command, operating_commands

pytestmark = pytest.mark.integration

SERVE = {"up", "ingest", "streams", "sink"}
COMMANDS = [
    command for command in operating_commands() if command.words[0] not in SERVE and "--every" not in command.words
]
# An empty deployment without a Meta has this to find fault with; everything else ends well.
FAULTS = {
    "backfill": "NotSent",
    "doctor": "graph",
    "deliver disable": "there is no destination 'crm'",
    "deliver enable": "there is no destination 'crm'",
    "deliver retry": "there is no destination 'crm'",
    "deliver show": "there is no destination 'crm'",
    "dlq show": "there is no dead letter",
    "erase --page 542998526103632 --psid 5794982867201265 --dry-run": "no person with this id was found",
    "erase --page 542998526103632 --psid 5794982867201265 --yes": "no person with this id was found",
    "erase --page 542998526103632 --psid 5794982867201265 --request": "there is no open request",
    "erase --resolve": "there is no open request",
    "kafka status": "Kafka does not run here",
}


@pytest.fixture
def place(kafka_topics: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The environment of an empty deployment, in a directory of its own."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "examples").symlink_to(DOCS.parent / "examples")
    (tmp_path / ".leadstream" / "logs").mkdir(parents=True)
    (tmp_path / ".leadstream" / "logs" / "ingest.log").touch()
    DeltaWarehouse(".leadstream/warehouse", tables_by_topic(str), cluster_id="one").open([])
    (tmp_path / "pages.yaml").write_text('pages: {"542998526103632": {access_token: t0ken}}')
    told = {name: str(getattr(kafka_topics, name)) for name in ("broker", "topic_prefix", "partitions")}
    told |= {"app_id": "1", "app_secrets": "s3cret", "verify_token": "v3rify", "graph_url": "http://127.0.0.1:1"}
    kept = {name: value for name, value in os.environ.items() if not name.startswith("LEADSTREAM_")}
    return {**kept, **{variable(name): value for name, value in told.items()}}


def test_the_commands_of_the_page_run_one_after_the_other(place: dict[str, str]) -> None:
    assert len(COMMANDS) > 20
    for command in COMMANDS:
        result = CliRunner().invoke(main, command.words, env={**place, **_told_beside(command)})

        fault = next((said for words, said in FAULTS.items() if str(command).startswith(words)), None)
        assert result.exit_code == (0 if fault is None else 1), f"{command}: {result.output}"
        assert (fault or "") in result.output, f"{command}: {result.output}"


def _told_beside(command: Command) -> dict[str, str]:
    """What the line itself puts into the environment, save where it speaks of other machines."""
    return {name: value for name, value in command.environ.items() if name != variable("broker")}
