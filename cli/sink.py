"""`leadstream sink …`: one sink as this process."""

from datetime import timedelta
from typing import Any

import click

from cli import options
from cli.terminal import Terminal
from operations.deployment import current_settings
from operations.stages.sinks import Sink, run_sink


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
def send(*, quarantine: float, **given: Any) -> None:
    """Send each follow-up once, inside its window.

    Pages and their tokens come from LEADSTREAM_PAGES, caps from LEADSTREAM_FOLLOWUPS. The topic followup-outcomes has
    the outcome of each command.

    \b
    Example:
      PAGE_TOKEN=… leadstream sink send
    """
    _run("send", call_timeout=timedelta(seconds=quarantine / 2), **given)


@command.command("warehouse")
@options.admin_port("ADMIN_PORT + 3")
@options.skip
@options.accept_loss
def warehouse(**given: Any) -> None:
    """Write leads, outcomes and replies to the warehouse.

    Dead letters are written too. LEADSTREAM_WAREHOUSE is a directory or an object storage URI with Delta Lake tables,
    or a postgresql:// server.

    \b
    Example:
      leadstream sink warehouse
      LEADSTREAM_WAREHOUSE=postgresql://user@host/leads leadstream sink warehouse
    """
    _run("warehouse", **given)


@command.command("transcripts")
@options.admin_port("ADMIN_PORT + 4")
@options.skip
@options.accept_loss
def transcripts(**given: Any) -> None:
    """Fetch the answers of complete leads that closed without any.

    They come from the Conversations API and go to messenger-webhooks as facts, so that no replay has to ask again.

    \b
    Example:
      PAGE_TOKEN=… leadstream sink transcripts
    """
    _run("transcripts", **given)


@command.command("conversions")
@options.admin_port("ADMIN_PORT + 10")
@options.skip
@options.accept_loss
def conversions(**given: Any) -> None:
    """Report each lead and its stages to Meta once.

    Only of Pages with `conversions` in LEADSTREAM_PAGES. The topic conversion-outcomes has the outcome of each.

    \b
    Example:
      PAGE_TOKEN=… leadstream sink conversions
    """
    _run("conversions", **given)


@command.command("deliver")
@options.admin_port("ADMIN_PORT + 9")
@options.skip
@options.accept_loss
def deliver(**given: Any) -> None:
    """Deliver leads to the endpoints of LEADSTREAM_DESTINATIONS.

    Each revision of a lead goes to each destination at least once, with the same webhook-id, signed by the Standard
    Webhooks specification. `leadstream deliver` shows what waits or failed.

    \b
    Example:
      CRM_SECRET=whsec_… leadstream sink deliver
    """
    _run("deliver", **given)


def _run(sink: Sink, **given: Any) -> None:
    run_sink(sink, current_settings(), Terminal().say, **given)
