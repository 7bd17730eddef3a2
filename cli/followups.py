"""`leadstream followups …`: are the rules good, and what would they do about a lead."""

import asyncio
import os
from datetime import datetime

import click
from aiokafka.errors import KafkaConnectionError

from cli.broker import broker_of
from cli.configuration import load_caps, load_pages, load_rules
from cli.environment import current_settings
from cli.schema_ids import schema_ids
from leads.preview import Preview, preview
from leads.records import Lead
from leads.rules import Rule
from runtime import kafka
from runtime.settings import Settings, variable
from runtime.topic_reader import whole_topic
from schemas.codec import Ids, lead_codec
from schemas.topics import LEADS


@click.group()
def command() -> None:
    """Check the follow-up rules, or try them on a lead. Nothing is sent."""


@command.command("check")
def check() -> None:
    """Check the rules of LEADSTREAM_FOLLOWUPS; the first fault is named with file, line and key.

    \b
    Example:
      leadstream followups check
    """
    settings = current_settings()
    rules = _rules(settings)
    load_caps(settings, os.environ)
    load_pages(settings, os.environ)
    for rule in rules:
        click.echo(f"{rule.name}: {len(rule.steps)} step{'s' if len(rule.steps) > 1 else ''}")
    click.echo(f"{settings.followups}: {len(rules)} rules, no faults")


@command.command("try")
@click.option(
    "--lead", "lead_id", required=True, metavar="ID", help="The lead_id, as `leadstream leads list` shows it."
)
@click.option("--show-pii", is_flag=True, help="Fill the messages with the person's answers.")
def try_rules(*, lead_id: str, show_pii: bool) -> None:
    """Show what the rules would send to the person of a lead, when, until when, and why not.

    The rules see the newest revision of the lead as if it were its first.

    \b
    Example:
      leadstream followups try --lead 8d6c0c1e-0000-5000-8000-000000000001
    """
    settings = current_settings()
    rules = _rules(settings)
    zones = load_pages(settings, os.environ)
    try:
        lead = asyncio.run(_newest(settings, broker_of(settings), schema_ids(settings), lead_id))
    except KafkaConnectionError:
        raise click.ClickException(
            "Kafka does not answer: see `leadstream kafka status` or LEADSTREAM_BROKER"
        ) from None
    if lead is None:
        raise click.ClickException(f"no lead {lead_id} in {settings.topic(LEADS.name)}: see `leadstream leads list`")
    for one in preview(lead, rules, zones.get(lead.page_id).time_zone):
        click.echo(_said(one, show_pii=show_pii))


def _rules(settings: Settings) -> tuple[Rule, ...]:
    if not settings.followups.exists():
        raise click.ClickException(f"there is no {settings.followups}: see {variable('followups')}")
    return load_rules(settings, os.environ)


def _said(one: Preview, *, show_pii: bool) -> str:
    name = f"{one.rule}, step {one.step}"
    if one.send_at is None:
        return f"{name}: not sent, {one.why_not}"
    when = f"at {_time(one.send_at)}, until {_time(one.until)}"
    text = (one.message if show_pii else one.template).text
    return f"{name}: {f'not sent, {one.why_not} ({when})' if one.why_not else f'sent {when}'}: {text}"


def _time(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"


async def _newest(settings: Settings, broker: str, ids: Ids, lead_id: str) -> Lead | None:
    codec, newest = lead_codec(ids), None
    async with kafka.consumer(broker, group=None, client_id="leadstream-followups") as consumer:
        async for records in whole_topic(consumer, settings.topic(LEADS.name), settings.partitions):
            for record in records:
                if record.key == lead_id.encode():
                    lead = None if record.value is None else codec.decode(record.value)
                    older = lead is not None and newest is not None and lead.revision < newest.revision
                    newest = newest if older else lead
    return newest
