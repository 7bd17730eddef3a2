"""`leadstream followups …`: are the rules good, and what would they do about a lead."""

import asyncio
import os
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from itertools import accumulate

import click
from aiokafka import AIOKafkaConsumer

from cli.progress import counted
from cli.terminal import one_line, say
from leads.preview import Preview, preview
from leads.records import FollowUpOutcome, Lead, OutcomeStatus, command_id
from leads.rules import Rule
from messenger.limits import MESSAGING_WINDOW
from operations.broker import broker_of, kafka_answers
from operations.configuration import load_caps, load_pages, load_rules
from operations.deployment import require_topics, schema_ids
from operations.environment import current_settings
from runtime import kafka
from runtime.clock import now
from runtime.cluster import Cluster
from runtime.settings import Settings, variable
from runtime.topic_reading import whole_topic
from schemas.codec import Ids, NotDecodable, lead_codec, outcome_codec
from schemas.topics import LEADS, OUTCOMES

_HOUR = timedelta(hours=1)
_SENT: frozenset[OutcomeStatus] = frozenset({"sent", "delivered", "read"})


@click.group()
def command() -> None:
    """Check the follow-up rules, or try them on a lead. Nothing is sent."""


@command.command("check")
def check() -> None:
    """Check the rules of LEADSTREAM_FOLLOWUPS; the first fault is named with file, line and key.

    A step that comes when the messaging window has closed is no fault, but is told, and so is a pattern whose classes
    know ASCII only.

    \b
    Example:
      leadstream followups check
    """
    settings = current_settings()
    rules = _rules(settings)
    load_caps(settings, os.environ)
    load_pages(settings, os.environ, tokens=False)
    for rule in rules:
        say(f"{rule.name}: {len(rule.steps)} step{'s' if len(rule.steps) > 1 else ''}")
        for number, wait in enumerate(accumulate(step.after for step in rule.steps), start=1):
            if wait >= MESSAGING_WINDOW:
                sent = "it is never sent" if "reply" in rule.cancel_on else "it is sent only if the person writes again"
                say(f"  step {number}, {wait / _HOUR:g} hours later, is past the 24-hour window: {sent}")
        for condition in rule.answers:
            if condition.regex is not None and condition.regex.has_ascii_class:
                say(
                    f"  the pattern for {condition.question!r} has \\b, \\d, \\s or \\w, which know ASCII only:"
                    " \\p{L} is any letter, \\p{Nd} any digit"
                )
    say(f"{settings.followups}: {len(rules)} rules, no faults")


@command.command("try")
@click.option(
    "--lead", "lead_id", required=True, metavar="ID", help="The lead_id, as `leadstream leads list` shows it."
)
@click.option("--show-pii", is_flag=True, help="Fill the messages with the person's answers.")
def try_rules(*, lead_id: str, show_pii: bool) -> None:
    """Show what the rules would send to the person of a lead, when, until when, and why not.

    The rules see the newest revision of the lead as if it were its first. What became of a step already is said too,
    and how much of the person's cap is used. Who has the thread now only Meta knows: see `leadstream thread owner`.

    \b
    Example:
      leadstream followups try --lead 8d6c0c1e-0000-5000-8000-000000000001
    """
    settings = current_settings()
    rules, caps = _rules(settings), load_caps(settings, os.environ)
    zones = load_pages(settings, os.environ, tokens=False)
    try:
        with kafka_answers(), counted("records read") as on_read:
            lead, outcomes = asyncio.run(_known(settings, broker_of(settings), schema_ids(settings), lead_id, on_read))
    except NotDecodable as fault:
        raise click.ClickException(f"a record cannot be read: {fault}") from None
    if lead is None:
        raise click.ClickException(f"no lead {lead_id} in {settings.topic(LEADS.name)}: see `leadstream leads list`")
    for one in preview(lead, rules, zones.get(lead.page_id).time_zone):
        say(_said(one, outcomes.get(command_id(lead.lead_id, one.rule, one.step)), show_pii=show_pii))
    if caps.per_person is not None:
        say(f"cap: the person got {_sent_lately(outcomes)} of {caps.per_person} messages in the last day")
    if caps.per_page is not None:
        say(f"cap: the people of the Page get {caps.per_page} messages a day; what is used of it is not read here")
    say("who has the thread now is not asked here: see `leadstream thread owner`")


def _rules(settings: Settings) -> tuple[Rule, ...]:
    rules = load_rules(settings, os.environ)
    if not settings.followups.exists():
        raise click.ClickException(f"there is no {settings.followups}: see {variable('followups')}")
    return rules


def _said(one: Preview, outcome: FollowUpOutcome | None, *, show_pii: bool) -> str:
    name = f"{one.rule}, step {one.step}"
    if outcome is not None:
        reason = f", {outcome.reason}" if outcome.reason else ""
        return f"{name}: {outcome.status} already at {_time(outcome.occurred_at)}{reason}"
    if one.send_at is None:
        return f"{name}: not sent, {one.why_not}"
    when = f"at {_time(one.send_at)}, until {_time(one.until)}"
    text = (one.message if show_pii else one.template).text
    return f"{name}: {f'not sent, {one.why_not} ({when})' if one.why_not else f'sent {when}'}: {one_line(text)}"


def _time(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"


def _sent_lately(outcomes: Mapping[str, FollowUpOutcome]) -> int:
    since = now() - timedelta(days=1)
    return sum(one.status in _SENT and one.occurred_at > since for one in outcomes.values())


async def _known(
    settings: Settings, broker: Cluster, ids: Ids, lead_id: str, on_read: Callable[[int], None]
) -> tuple[Lead | None, Mapping[str, FollowUpOutcome]]:
    """The newest revision of the lead, and the newest outcome of each command to its person, by command id."""
    await require_topics(settings, broker)
    async with kafka.consumer(broker, group=None, client_id="leadstream-followups") as consumer:
        lead = await _newest(consumer, settings, ids, lead_id, on_read)
        return lead, {} if lead is None else await _outcomes(consumer, settings, ids, lead, on_read)


async def _newest(
    consumer: AIOKafkaConsumer, settings: Settings, ids: Ids, lead_id: str, on_read: Callable[[int], None]
) -> Lead | None:
    codec, newest = lead_codec(ids), None
    async for records in whole_topic(consumer, settings.topic(LEADS.name), settings.partitions):
        on_read(len(records))
        for record in records:
            if record.key == lead_id.encode():
                lead = None if record.value is None else codec.decode(record.value)
                older = lead is not None and newest is not None and lead.revision < newest.revision
                newest = newest if older else lead
    return newest


async def _outcomes(
    consumer: AIOKafkaConsumer, settings: Settings, ids: Ids, lead: Lead, on_read: Callable[[int], None]
) -> Mapping[str, FollowUpOutcome]:
    codec, found = outcome_codec(ids), dict[str, FollowUpOutcome]()
    async for records in whole_topic(consumer, settings.topic(OUTCOMES.name), settings.partitions):
        on_read(len(records))
        for record in records:
            if record.value is None:
                found.pop((record.key or b"").decode(errors="replace"), None)
                continue
            outcome = codec.decode(record.value)
            if (outcome.page_id, outcome.psid) == (lead.page_id, lead.psid):
                found[outcome.command_id] = outcome
    return found
