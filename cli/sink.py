"""`leadstream sink …`: commands to the Send API, records to the warehouse, transcripts from the Conversations API."""

from datetime import timedelta

import click

from cli import options
from cli.terminal import Terminal
from operations.deployment import current_settings
from operations.stages.sinks import run_send_sink, run_transcripts_sink, run_warehouse_sink


@click.group()
def command() -> None:
    """Run one of the sinks until SIGTERM or Ctrl-C."""


@command.command("send")
@options.admin_port("ADMIN_PORT + 2")
@click.option(
    "--quarantine",
    type=click.FloatRange(min=0.002),
    default=20.0,
    show_default=True,
    help="Seconds until a call without a result is looked up; a call may take half of them.",
)
@options.skip
@options.accept_loss
def send(admin_port: int | None, quarantine: float, skip: tuple[str, ...], accept_loss: tuple[str, ...]) -> None:
    """Send each follow-up once, inside its window.

    Pages and their tokens come from LEADSTREAM_PAGES, caps from LEADSTREAM_FOLLOWUPS. The topic followup-outcomes has
    the outcome of each command.

    \b
    Example:
      PAGE_TOKEN=… leadstream sink send
    """
    run_send_sink(current_settings(), Terminal().say, admin_port, skip, accept_loss, timedelta(seconds=quarantine))


@command.command("warehouse")
@options.admin_port("ADMIN_PORT + 3")
@options.skip
@options.accept_loss
def warehouse(admin_port: int | None, skip: tuple[str, ...], accept_loss: tuple[str, ...]) -> None:
    """Write leads, outcomes and replies to the warehouse.

    Dead letters are written too. LEADSTREAM_WAREHOUSE is a directory or an object storage URI with Delta Lake tables,
    or a postgresql:// server.

    \b
    Example:
      leadstream sink warehouse
      LEADSTREAM_WAREHOUSE=postgresql://user@host/leads leadstream sink warehouse
    """
    run_warehouse_sink(current_settings(), Terminal().say, admin_port, skip, accept_loss)


@command.command("transcripts")
@options.admin_port("ADMIN_PORT + 4")
@options.skip
@options.accept_loss
def transcripts(admin_port: int | None, skip: tuple[str, ...], accept_loss: tuple[str, ...]) -> None:
    """Fetch the answers of complete leads that closed without any.

    They come from the Conversations API and go to messenger-events as facts, so that no replay has to ask again.

    \b
    Example:
      PAGE_TOKEN=… leadstream sink transcripts
    """
    run_transcripts_sink(current_settings(), Terminal().say, admin_port, skip, accept_loss)
