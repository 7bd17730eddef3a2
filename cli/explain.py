"""`leadstream explain`: one timeline from the webhook to the warehouse, and what comes next."""

import asyncio
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import asdict
from datetime import datetime
from typing import Any

import click

from cli import options
from cli.terminal import Terminal, print_json, say
from operations.configuration import load_caps, load_pages, load_rules
from operations.deployment import Deployment, current_settings
from operations.explain.run import explain
from operations.explain.timeline import Coming, Moment, Timeline, masked
from runtime.clock import now


@click.command()
@click.argument("subject", metavar="ID")
@options.as_json()
@click.option("--show-pii", is_flag=True, help="Show the PSID, answers and texts.")
def command(subject: str, *, as_json: bool, show_pii: bool) -> None:
    """Explain what became of ID, why, and what comes next.

    ID is a lead, a person as PAGE:PSID, a command, a delivery as ingest's log and `leadstream verify` name it, or a
    record as TOPIC/PARTITION/OFFSET; `-` reads it from stdin, because the shell keeps a history of its command lines.
    It is read from the topics and the warehouse, and judged by the rules and settings of now. The timeline of a lead, a
    command or a delivery is that of its person, from a day before.

    \b
    Example:
      leadstream explain 8d6c0c1e-0000-5000-8000-000000000001
      leadstream explain messenger-webhooks/3/4103 --json
    """
    settings = current_settings()
    pages = load_pages(settings, os.environ, tokens=False)
    rules, caps = load_rules(settings, os.environ), load_caps(settings, os.environ)
    subject = sys.stdin.readline().strip() if subject == "-" else subject
    deployment = Deployment.of(settings)
    timeline = asyncio.run(explain(deployment, subject, pages, rules, caps, now(), Terminal()))
    shown = timeline if show_pii else masked(timeline)
    if as_json:
        print_json(json.dumps(asdict(shown), default=_plain, indent=2))
    else:
        say(*_lines(shown))


def _plain(value: Any) -> str:
    assert isinstance(value, datetime), "everything else is JSON already"
    return value.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _lines(timeline: Timeline) -> Iterator[str]:
    if timeline.page_id is not None:
        yield f"Page {timeline.page_id}, PSID {timeline.psid}, {len(timeline.lead_ids)} leads"
    for moment in timeline.moments:
        yield _of_moment(moment)
    if timeline.coming:
        yield "Next, if nothing else comes before:"
    for entry in timeline.coming:
        yield _of_coming(entry)


def _of_moment(moment: Moment) -> str:
    reason = f" [{moment.reason}]" if moment.reason else ""
    place = f"  ({moment.place})" if moment.place is not None else ""
    personal = f": {moment.personal}" if moment.personal is not None else ""
    return f"{_time(moment.at)}  {moment.kind:<18}  {moment.text}{reason}{personal}{place}"


def _of_coming(entry: Coming) -> str:
    return f"{_time(entry.at)}  {entry.text}{f' [{entry.reason}]' if entry.reason else ''}"


def _time(moment: datetime | None) -> str:
    return (
        "                       " if moment is None else f"{moment:%Y-%m-%d %H:%M:%S}.{moment.microsecond // 1000:03}"
    )
