"""`leadstream …`: one module a command, imported only when it is called; help and version import none."""

import sys
from importlib import import_module
from typing import Any

import click

from runtime.file_limit import raise_file_limit
from runtime.logs import log_crash

# Each help text fits beside its command within 80 columns.
_COMMANDS = {
    "demo": "Run a whole campaign on this machine and show the outcome.",
    "up": "Run everything on this machine, for real webhooks.",
    "ingest": "Receive Meta's webhooks and keep them in Kafka.",
    "verify": "Prove that each receipt of ingest is in Kafka.",
    "audit": "Judge whether everything is accounted for.",
    "streams": "Split webhooks into events, join events into leads.",
    "sink": "Run a sink: send, warehouse, transcripts, conversions.",
    "kafka": "Start, stop or check the local Kafka node.",
    "topics": "Create or list the topics.",
    "schemas": "Check or register the schemas of the topics.",
    "warehouse": "Query, export or rebuild the warehouse.",
    "console": "Look at everything in a browser.",
    "leads": "List the leads.",
    "deliver": "Show or steer what goes to your endpoints.",
    "stages": "Say what stage a lead has come to.",
    "explain": "Say what became of a lead or webhook, and why.",
    "followups": "Check the follow-up rules, or try them on a lead.",
    "backfill": "Restore leads that no webhook brought.",
    "thread": "Show or change the owner of a person's thread.",
    "replay": "Join the past again, compare, carry over.",
    "doctor": "Check every prerequisite, at Meta and here.",
    "canary": "Send a webhook through everything but Meta, and time it.",
    "erase": "Erase the data of a person everywhere, and prove it.",
    "dlq": "List, show, send back or discard dead letters.",
    "template": "Make or check the message template of a lead ad.",
    "simulate": "Play Meta: a Graph API, or a campaign of webhooks.",
}


class _Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in _COMMANDS:
            return None
        command: click.Command = import_module(f"cli.{cmd_name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """The table above: the help of the whole imports no command."""
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))

    def make_context(self, *arguments: Any, **options: Any) -> click.Context:
        """Read the options of `leadstream` itself."""
        try:
            return super().make_context(*arguments, **options)
        except click.ClickException as fault:
            from cli.terminal import one_line

            fault.message = one_line(fault.message)
            raise

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; a fault that an operator can mend becomes one line and a status."""
        from cli.terminal import run  # with all that most commands need and help does not

        sys.excepthook = log_crash
        raise_file_limit()
        return run(lambda: super(_Commands, self).invoke(ctx))


@click.command(cls=_Commands)
@click.version_option(package_name="leadstream")
def main() -> None:
    """Turn Meta's lead-ad webhooks into leads, follow-ups and a warehouse.

    Settings come from LEADSTREAM_… variables; docs/configuration.md lists them.

    \b
    Example:
      leadstream demo
    """
