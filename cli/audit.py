"""`leadstream audit`: whether everything that was received in a window is accounted for."""

import asyncio
import json
import os
from collections.abc import Iterator
from dataclasses import asdict
from datetime import datetime, timedelta

import click

from cli import options
from cli.terminal import Terminal, print_json, run, say
from leads.person import STATE_TTL
from operations.audit.codes import MEANINGS
from operations.audit.report import Report
from operations.audit.run import audit_window
from operations.configuration import load_pages, load_rules
from operations.deployment import Deployment, current_settings
from runtime.clock import now
from streams.replay.plan import Place, Wanted

_DAY = timedelta(days=1)
_SHOWN = 100


@click.command()
@click.option("--from", "begin", type=options.PlaceType(), help="0, 3:1200 or 2026-03-02T12:00.  [default: a day ago]")
@click.option(
    "--to", "until", type=options.PlaceType(), help="Up to, not including.  [default: as far as it is joined]"
)
@click.option(
    "--warm-up",
    type=options.DurationType(),
    default=STATE_TTL,
    show_default="30d, the memory of the join",
    help="How far before the start reading begins, so that leads that straddle it are whole.",
)
@click.option("--rules-changed", is_flag=True, help="The rules changed since the warm-up: do not compare commands.")
@options.as_json()
@click.pass_context
def command(
    context: click.Context,
    *,
    begin: Place | None,
    until: Place | None,
    warm_up: timedelta,
    rules_changed: bool,
    as_json: bool,
) -> None:
    """Judge whether everything is accounted for.

    Each webhook of the window is followed through the topics to leads, commands, texts and rows of the warehouse, and
    the leads are joined again from the log. Each finding has a code, a place and a sentence. Things that have not had
    their time are counted and are no findings. Nothing is written. Ends with status 0 when everything is accounted for,
    with 1 for findings, and with 2 where it cannot be judged.

    \b
    Example:
      leadstream audit
      leadstream audit --from 2026-03-01 --to 2026-03-02 --json
    """
    try:
        report = run(lambda: _report(begin, until, warm_up, rules_changed=rules_changed))
    except click.ClickException as fault:
        fault.exit_code = 2
        raise
    if as_json:
        print_json(json.dumps(_plain(report), indent=2))
    else:
        say(*_lines(report))
    if report.findings:
        context.exit(1)


def _report(begin: Place | None, until: Place | None, warm_up: timedelta, *, rules_changed: bool) -> Report:
    settings = current_settings()
    pages, rules = load_pages(settings, os.environ, tokens=False), load_rules(settings, os.environ)
    if begin is None:
        begin = (until if isinstance(until, datetime) else now()) - _DAY
    wanted = Wanted(begin=begin, until=until, warm_up=warm_up)
    deployment = Deployment.of(settings)
    return asyncio.run(audit_window(deployment, pages, None if rules_changed else rules, wanted, Terminal()))


def _plain(report: Report) -> dict[str, object]:
    return {
        **asdict(report),
        "since": _time(report.since),
        "until": _time(report.until),
        "findings": [
            {"code": finding.what, "place": finding.where, "meaning": MEANINGS[finding.what]}
            for finding in report.findings
        ],
    }


def _lines(report: Report) -> Iterator[str]:
    counted = ", ".join(f"{count} {name}" for name, count in report.judged.items())
    yield f"{_time(report.since)} to {_time(report.until)}: {counted}"
    waiting = ", ".join(f"{count} {name}" for name, count in report.beyond.items() if count)
    if waiting:
        yield f"not judged yet: {waiting}"
    yield from (f"limit: {limit}" for limit in report.limits)
    for finding in report.findings[:_SHOWN]:
        yield f"{finding.what}  {finding.where}: {MEANINGS[finding.what]}"
    if len(report.findings) > _SHOWN:
        yield f"… and {len(report.findings) - _SHOWN} more; --json has all"
    yield f"not accounted for: {len(report.findings)}" if report.findings else "everything is accounted for"


def _time(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
