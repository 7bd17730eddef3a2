"""Every command of `leadstream` helps with an example."""

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
            yield from commands(command, f"{path} {name}")
        else:
            yield f"{path} {name}", command


COMMANDS = dict(commands(main, "leadstream"))


@pytest.mark.parametrize("path", COMMANDS)
def test_help_has_an_example_of_the_command(path: str) -> None:
    command = COMMANDS[path]

    text = command.get_help(click.Context(command, info_name=path))

    assert path in text.partition("Example:")[2], text


def test_commands_of_the_table_are_all_there() -> None:
    assert {path.split()[1] for path in COMMANDS} == set(main.list_commands(click.Context(main)))
