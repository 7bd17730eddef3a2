"""`leadstream …`: one module a command, imported only when it is called."""

import sys
from importlib import import_module
from typing import Any

import click

from cli.terminal import visible
from runtime.file_limit import raise_file_limit
from runtime.logs import log_crash
from runtime.losses import OutOfReach
from runtime.settings import SettingError
from runtime.versions import WrongVersion
from runtime.yaml_file import FileFault

_COMMANDS = {
    "demo": "Run a whole campaign on this machine and show what became of it.",
    "up": "Run everything on this machine for real webhooks, until Ctrl-C.",
    "ingest": "Receive Meta's webhooks and keep them in Kafka.",
    "verify": "Prove that what ingest answered 200 is in Kafka, byte for byte.",
    "streams": "Split webhooks into events and join events into leads.",
    "sink": "Carry commands and leads out: send, warehouse, transcripts.",
    "kafka": "Start, stop or look at the local Kafka node.",
    "topics": "Create or list the topics.",
    "schemas": "Check the schemas of the topics, or register them.",
    "warehouse": "Query the warehouse, export from it, see how it is.",
    "leads": "List the leads.",
    "followups": "Check the follow-up rules, or try them on a lead.",
    "backfill": "Find the leads that Meta's conversations show and we lack, and restore them.",
    "thread": "See who has the thread with a person, or change it.",
    "replay": "Join the past again beside the present, compare, and carry the differences over.",
    "doctor": "Look at every prerequisite, at Meta and here, and mend what can be mended.",
    "erase": "Forget a person everywhere, and prove it.",
    "dlq": "List, show, send back or discard dead letters.",
    "template": "Make or check the message template of a lead ad.",
    "simulate": "Play Meta: a Graph API, or a campaign of signed webhooks.",
}


class _Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in _COMMANDS:
            return None
        command: click.Command = import_module(f"cli.{cmd_name}").command
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; a wrong setting or file becomes one line and a status."""
        sys.excepthook = log_crash
        raise_file_limit()
        try:
            return super().invoke(ctx)
        except (SettingError, FileFault, OutOfReach, WrongVersion) as fault:
            raise click.ClickException(visible(str(fault))) from None
        except PermissionError as fault:
            raise click.ClickException(
                visible(f"{fault.filename}: {fault.strerror}: it belongs to another user")
            ) from None
        except click.ClickException as fault:
            fault.message = visible(fault.message)
            raise


@click.command(cls=_Commands)
@click.version_option(package_name="leadstream")
def main() -> None:
    """Messenger Lead Ads as a stream: webhooks in, leads, follow-ups and a warehouse out.

    Settings come from LEADSTREAM_… variables; docs/configuration.md lists them.

    \b
    Example:
      leadstream demo
    """
