"""`leadstream demo`: a whole campaign on this machine, and its outcome."""

import os
from time import monotonic

import click

from cli.demo_report import DemoReport
from cli.terminal import say
from operations.demo.run import run_demo
from operations.deployment import current_settings


@click.command()
@click.option("--leads", type=click.IntRange(1, 2000), default=60, show_default=True, help="Leads of the campaign.")
@click.option("--keep", is_flag=True, help="Stay up at the end, until Ctrl-C.")
def command(*, leads: int, keep: bool) -> None:
    """Run a lead-ad campaign through everything, against a fake Meta.

    Starts Kafka, ingest, streams, the sinks and a fake Graph API, posts signed webhooks, shows the outcome of each
    lead, has people read and answer their follow-ups, and stops all of it again. Nothing leaves this machine. Ends
    non-zero when a lead or a receipt is missing, or a follow-up has no end.

    \b
    Example:
      leadstream demo --leads 200
      leadstream demo --keep
    """
    began = monotonic()
    faults, logs = run_demo(current_settings(), os.environ, leads, say, DemoReport(), keep=keep)
    say(f"Everything has stopped. {monotonic() - began:.0f} seconds; the logs are in {logs}")
    if faults:
        raise click.ClickException("; ".join(faults))
