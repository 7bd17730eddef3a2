"""`leadstream followups …`: are the rules valid, and what would they send for a lead."""

import asyncio
import os
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from itertools import accumulate

import click

from cli.terminal import Terminal, say
from leads.pages import Pages
from leads.preview import Preview, preview
from leads.records import FollowUpOutcome, OutcomeStatus, command_id
from leads.rules import Rule, doubts
from messenger.limits import MESSAGING_WINDOW
from operations.configuration import load_caps, load_pages, load_rules
from operations.deployment import Deployment, current_settings
from operations.followups import has_opted_out, lead_and_outcomes
from operations.reporting import OperationError
from runtime.clock import now
from runtime.settings import Settings, variable

_HOUR = timedelta(hours=1)
_SENT: frozenset[OutcomeStatus] = frozenset({"sent", "delivered", "read"})


@click.group()
def command() -> None:
    """Check the follow-up rules, or try them on a lead. Nothing is sent."""


@command.command("check")
def check() -> None:
    """Check the rules of LEADSTREAM_FOLLOWUPS.

    The first fault is named with file, line and key. Reported, though no faults: a step that comes after the messaging
    window has closed, a pattern whose classes know ASCII only, a wait that may never end or ends too soon.

    \b
    Example:
      leadstream followups check
    """
    settings = current_settings()
    rules = _rules(settings)
    load_caps(settings, os.environ)
    pages = load_pages(settings, os.environ, tokens=False)
    for rule in rules:
        say(f"{rule.name}: {len(rule.steps)} step{'s' if len(rule.steps) > 1 else ''}")
        for warning in _warnings(rule, pages):
            say(f"  {warning}")
    say(f"{settings.followups}: {len(rules)} rules, no faults")


@command.command("try")
@click.option("--lead", "lead_id", required=True, metavar="ID", help="The lead_id that `leadstream leads list` shows.")
@click.option("--show-pii", is_flag=True, help="Fill the messages with the person's answers.")
def try_rules(*, lead_id: str, show_pii: bool) -> None:
    """Show what the rules would send for a lead, and when.

    The rules see the newest revision of the lead as if it were its first. A step that already has an outcome shows it;
    one that is not sent shows the reason; the use of the person's cap comes last. Only Meta knows the owner of the
    thread now: see `leadstream thread owner`.

    \b
    Example:
      leadstream followups try --lead 8d6c0c1e-0000-5000-8000-000000000001
    """
    settings = current_settings()
    rules, caps = _rules(settings), load_caps(settings, os.environ)
    pages = load_pages(settings, os.environ, tokens=False)
    lead, outcomes = asyncio.run(lead_and_outcomes(Deployment.of(settings), lead_id, Terminal()))
    opted_out = has_opted_out(outcomes)
    if opted_out:
        say("the person opted out: nothing is sent until they finish a later flow or send a start word")
    for step in preview(lead, rules, pages.get(lead.page_id).time_zone):
        outcome = outcomes.get(command_id(lead.lead_id, step.rule, step.step))
        described = _described(step, outcome, show_pii=show_pii)
        say(f"{step.rule}, step {step.step}: {'not sent' if opted_out and outcome is None else described}")
    if caps.per_person is not None:
        say(f"cap: the person got {_sent_lately(outcomes)} of {caps.per_person} messages in the last day")
    if caps.per_page is not None:
        say(f"cap: the people of the Page get {caps.per_page} messages a day; its use is not read here")
    say("the owner of the thread is not asked here: see `leadstream thread owner`")


def _rules(settings: Settings) -> tuple[Rule, ...]:
    rules = load_rules(settings, os.environ)
    if not settings.followups.exists():
        raise OperationError(f"there is no {settings.followups}: see {variable('followups')}")
    return rules


def _warnings(rule: Rule, pages: Pages) -> Iterator[str]:
    if rule.wait_for == "handover":
        yield "it waits for the handover: on a Page that gets none it never acts"
    yield from doubts(rule, pages)
    for number, wait in enumerate(accumulate(step.after for step in rule.steps), start=1):
        if wait >= MESSAGING_WINDOW:
            sent = "it is never sent" if "reply" in rule.cancel_on else "it is sent only if the person writes again"
            yield f"step {number}, {wait / _HOUR:g} hours later, is past the 24-hour window: {sent}"
    for condition in rule.answers:
        if condition.regex is not None and condition.regex.has_ascii_class:
            yield (
                f"the pattern for {condition.question!r} has \\b, \\d, \\s or \\w, which know ASCII only:"
                " \\p{L} is any letter, \\p{Nd} any digit"
            )


def _described(step: Preview, outcome: FollowUpOutcome | None, *, show_pii: bool) -> str:
    if outcome is not None:
        reason = f", {outcome.reason}" if outcome.reason else ""
        return f"{outcome.status} already at {_time(outcome.occurred_at)}{reason}"
    if step.send_at is None:
        return f"not sent, {step.why_not}"
    when = f"at {_time(step.send_at)}, until {_time(step.until)}"
    text = (step.message if show_pii else step.template).text
    return f"{f'not sent, {step.why_not} ({when})' if step.why_not else f'sent {when}'}: {text}"


def _time(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"


def _sent_lately(outcomes: Mapping[str, FollowUpOutcome]) -> int:
    since = now() - timedelta(days=1)
    return sum(outcome.status in _SENT and outcome.occurred_at > since for outcome in outcomes.values())
