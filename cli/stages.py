"""`leadstream stages …`: the stages that leads come to in a CRM."""

import asyncio
from datetime import datetime

import click

from cli import options
from cli.terminal import Terminal, say
from operations.deployment import Deployment, current_settings
from operations.stages_of_leads import set_stage


@click.group()
def command() -> None:
    """Say what stage a lead has come to."""


@command.command("set")
@click.argument("lead")
@click.argument("stage")
@click.option("--at", type=options.TimeType(), help="When it came to it, in UTC.  [default: now]")
@click.option("--source", default="leadstream", show_default=True, help="The system that says so.")
def set_command(*, lead: str, stage: str, at: datetime | None, source: str) -> None:
    """Write to the topic lead-stages that LEAD has come to STAGE.

    `leadstream sink conversions` reports it to Meta, where the Page has that on.

    \b
    Example:
      leadstream stages set 715ae829-e1fa-5929-9666-234328e25021 QualifiedLead
    """
    deployment = Deployment.of(current_settings())
    record = asyncio.run(set_stage(deployment, lead, stage, at, source, Terminal()))
    say(f"{record.lead_id}: {record.stage} since {record.occurred_at:%Y-%m-%d %H:%M:%S} UTC")
