"""`leadstream streams`: the splitter and the join."""

from typing import Any

import click

from cli import options
from cli.terminal import Terminal
from operations.deployment import current_settings
from operations.stages.streams import run_streams
from runtime.dead_letter import DEAD_LETTERS_A_MINUTE


@click.command()
@click.option("--workers", type=click.IntRange(1, 64), default=1, show_default=True, help="How many processes.")
@options.admin_port("ADMIN_PORT + 1", label="Port of health and metrics; the next workers have it plus 100, 200, …")
@click.option(
    "--dead-letters",
    type=click.IntRange(0),
    default=DEAD_LETTERS_A_MINUTE,
    show_default=True,
    help="Dead letters that a partition may give in a minute; more end the worker.",
)
@options.skip
@options.accept_loss
@click.option("--skip-is-checked", is_flag=True, hidden=True)
def command(**given: Any) -> None:
    """Split webhooks into events and join events into leads, until SIGTERM or Ctrl-C.

    A worker that fails ends with a non-zero status and its offsets unmoved, and the others end with it. A record that
    has ended it three times is set aside as a dead letter.

    \b
    Example:
      leadstream kafka start && leadstream topics apply && leadstream streams
      leadstream streams --workers 2
      leadstream streams --skip messenger-webhooks:3:41
      leadstream streams --accept-loss messenger-webhooks:3:41
    """
    run_streams(current_settings(), Terminal().say, **given)
