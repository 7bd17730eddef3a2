"""Every command of docs/operating.md is one that the command line takes, with those options and arguments."""

import os
import re
import stat
from pathlib import Path

import click
import pytest

from cli.main import main
from docs.generate import DOCS
from ingest.publisher import Delivery
from ingest.spool.file import SpoolFile
from runtime.clock import from_millis
from runtime.settings import Settings, variable
from tests.contract.operating_commands import Command, operating_commands

COMMANDS = operating_commands()
SUBJECTS = (
    "kafka refuses",
    "lag",
    "dead letters",
    "token",
    "page that stopped",
    "replay",
    "erasure",
    "data-deletion request",
    "rolling upgrade",
    "three brokers",
    "secured kafka",
)


def parse(words: tuple[str, ...]) -> click.Context:
    """Read the words as `leadstream` would, and run nothing."""
    command: click.Command = main
    context = click.Context(command, info_name="leadstream")
    rest = list(words)
    while isinstance(command, click.Group):
        name = rest.pop(0) if rest else ""
        found = command.get_command(context, name)
        if found is None:
            raise click.UsageError(f"no command {name!r}", context)
        command = found
        context = click.Context(command, info_name=name, parent=context)
    return command.make_context(words[-1], rest, parent=context.parent)


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The files that the page's commands read."""
    monkeypatch.chdir(tmp_path)
    logs = tmp_path / ".leadstream" / "logs"
    logs.mkdir(parents=True)
    (logs / "ingest.log").touch()
    (tmp_path / "examples").symlink_to(DOCS.parent / "examples")


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize("command", COMMANDS, ids=str)
def test_a_command_of_the_page_is_taken(command: Command) -> None:
    parse(command.words).close()

    assert set(command.environ) <= {variable(name) for name in Settings.__dataclass_fields__}


@pytest.mark.parametrize(
    "words", [("doctors",), ("dlq", "list", "--nonsense"), ("dlq", "show"), ("dlq", "list", "--topic", "none")]
)
def test_a_command_that_is_none_would_be_found(words: tuple[str, ...]) -> None:
    with pytest.raises(click.UsageError):
        parse(words)


def test_a_line_of_another_program_would_be_found() -> None:
    with pytest.raises(AssertionError, match="no test runs this line"):
        operating_commands("```sh\nrm -r somewhere\n```\n")


@pytest.mark.parametrize("subject", SUBJECTS)
def test_the_page_has_a_section_for_each_subject(subject: str) -> None:
    headings = [line.lower() for line in (DOCS / "operating.md").read_text().splitlines() if line.startswith("## ")]

    assert any(subject in heading for heading in headings)


def test_the_recipe_for_what_kafka_refuses_writes_each_body_and_its_signature(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    spool = SpoolFile(tmp_path / ".leadstream" / "spool" / "messenger-webhooks-0.sqlite")
    spool.write([Delivery("d1", from_millis(1), "sha256=0", b"a body \xff")], [])
    spool.close()
    [recipe] = re.findall(r"```python\n(.*?)```", (DOCS / "operating.md").read_text(), re.DOTALL)
    before = os.umask(0o022)
    try:
        exec(recipe, {})
    finally:
        os.umask(before)

    written = tmp_path / "set-aside"
    assert {path.name: path.read_bytes() for path in written.iterdir()} == {
        "d1.json": b"a body \xff",
        "d1.signature": b"sha256=0",
    }
    assert {stat.S_IMODE(path.stat().st_mode) for path in (written, *written.iterdir())} == {0o700, 0o600}
