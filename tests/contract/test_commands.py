"""Every command of `leadstream` helps with an example, in a terminal of 80 columns."""

import json
import subprocess
import sys
from collections.abc import Iterator

import click
import pytest

from cli.main import main


def commands(group: click.Group, path: str) -> Iterator[tuple[str, click.Command]]:
    context = click.Context(group, info_name=path)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None, f"{path} {name} is listed and not there"
        if isinstance(command, click.Group):
            GROUPS[f"{path} {name}"] = command
            yield from commands(command, f"{path} {name}")
        else:
            yield f"{path} {name}", command


GROUPS: dict[str, click.Command] = {"leadstream": main}
COMMANDS = dict(commands(main, "leadstream"))


@pytest.mark.parametrize("path", COMMANDS)
def test_help_has_an_example_of_the_command(path: str) -> None:
    command = COMMANDS[path]

    text = command.get_help(click.Context(command, info_name=path))

    assert path in text.partition("Example:")[2], text


def test_commands_of_the_table_are_all_there() -> None:
    assert {path.split()[1] for path in COMMANDS} == set(main.list_commands(click.Context(main)))


@pytest.mark.parametrize("path", [*GROUPS, *COMMANDS])
def test_help_fits_into_80_columns_and_is_not_cut_short(path: str) -> None:
    command = {**GROUPS, **COMMANDS}[path]

    text = command.get_help(click.Context(command, info_name=path, terminal_width=80))

    lines = [line for line in text.splitlines() if not line.startswith("Usage: ")]
    assert [line for line in lines if len(line) > 80 or line.endswith("...")] == []


@pytest.mark.parametrize("option", ["--help", "--version"])
def test_help_imports_no_command_and_no_heavy_library(option: str) -> None:
    code = """
import json, sys
from cli.main import main
try:
    main([sys.argv[1]], prog_name="leadstream")
finally:
    print(json.dumps(sorted(sys.modules)))
"""

    done = subprocess.run([sys.executable, "-c", code, option], capture_output=True, text=True, check=True)

    *shown, modules = done.stdout.splitlines()
    assert "leadstream" in shown[0]
    imported = {name.partition(".")[0] for name in json.loads(modules)}
    assert imported & {
        "aiokafka", "asyncio", "avro", "deltalake", "duckdb", "fastapi", "fastavro", "faust", "google", "httpx", "mode",
        "prometheus_client", "psycopg", "pyarrow", "re2", "rich", "starlette", "uvicorn", "uvloop", "yaml",
    } == set()  # fmt: skip
    assert (
        imported & {"ingest", "leads", "messenger", "operations", "schemas", "simulator", "sinks", "streams"} == set()
    )
    assert {name for name in json.loads(modules) if name.startswith("cli.")} == {"cli.main"}
