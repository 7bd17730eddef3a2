"""`leadstream erase`: the data of one person taken out of everywhere, and proof of it."""

import asyncio
import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import click

from cli import options
from cli.erase_requests import RequestOptions, list_or_resolve, request_options, settle
from cli.terminal import Terminal, print_json, say
from messenger.events import PageId, Psid
from operations.configuration import load_pages
from operations.deployment import Deployment, current_settings
from operations.erase.requests import read_register
from operations.erase.run import Remaining, Result, erase, search, was_erased
from operations.erase.steps import Person
from operations.erase.traces import Trace
from operations.reporting import OperationError
from runtime.settings import Settings

_REMAINS, _REMAINS_FOR_EVER = 3, 4


@click.command()
@click.option("--page", type=options.IdType(), help="The Page that the PSID belongs to.")
@click.option("--psid", type=options.IdType(), help="The person's Page-scoped id; - reads it from stdin.")
@request_options
@click.option("--dry-run", is_flag=True, help="Print where data of the person is, and change nothing.")
@click.option("--verify", is_flag=True, help="Search everything; end with 0 when nothing is found, else with 1.")
@click.option(
    "--also",
    type=click.File(encoding="utf-8"),
    help="With --verify: a file of answers or texts, one a line, to search for too; - is stdin.",
)
@options.yes
@click.option(
    "--wait",
    "patience",
    type=click.FloatRange(min=1),
    default=60.0,
    show_default=True,
    help="Seconds to wait for each stage to pass the erasure.",
)
@options.as_json()
@click.pass_context
def command(
    context: click.Context,
    /,
    *,
    page: str | None,
    psid: str | None,
    dry_run: bool,
    verify: bool,
    also: Any,
    yes: bool,
    patience: float,
    as_json: bool,
    **given: Any,
) -> None:
    """Erase the data of a person.

    State, leads, ledger, replays and warehouse rows go at once, webhooks when their retention has passed. The person
    gets no notice and no further message, and no replay brings the data back. A person who writes again later is new.

    \b
    Ends with 0 when nothing is left, with 3 when something is left until a
    printed time, with 4 when something is left for ever because
    LEADSTREAM_RETENTION is not set, with 1 when no such person was found or a
    stage has not passed. Run it again at any time: it does what is left to do.

    A PSID on the command line stays in the shell's history: --psid - reads it from stdin.

    A request through Meta's data-deletion callback has an app-scoped id and no PSID: --requests lists the open
    requests, --request resolves one along with its erasure, --resolve without.

    \b
    Example:
      leadstream erase --page 542998526103632 --psid 5794982867201265 --dry-run
      leadstream erase --page 542998526103632 --psid - --yes < psid.txt
      leadstream erase --page 542998526103632 --psid - --verify < psid.txt
      leadstream erase --requests
      leadstream erase --page 542998526103632 --psid - --yes \\
        --request DE4G4KSVN3W7QXJZ2HTM6PBA < psid.txt
      leadstream erase --resolve DE4G4KSVN3W7QXJZ2HTM6PBA --note-nothing-held
    """
    settings = current_settings()
    requests = RequestOptions(**given)
    requests.check()
    person = None if requests.without_erasure else _person(settings, page, psid)
    if also is not None and not verify:
        raise click.UsageError("--also is for --verify")
    is_search = verify and person is not None and requests.request is None
    deployment = Deployment.of(settings, with_ids=not is_search)
    if person is None:
        list_or_resolve(deployment, requests, as_json=as_json)
        return
    if requests.request is not None:
        asyncio.run(read_register(deployment)).require_open(requests.request)
    traces = asyncio.run(search(deployment, [person.psid, *_lines(also)], Terminal()))
    is_known = asyncio.run(was_erased(deployment, person))
    if not verify and not traces and not is_known:
        raise OperationError("no person with this id was found on this Page: nothing to erase")
    if verify or dry_run or not as_json:
        _print_traces(traces, as_json=as_json)
    if verify:
        settle(deployment, requests.request, is_gone=not traces and is_known)
        context.exit(1 if traces else 0)
    if not dry_run:
        context.exit(_erase(deployment, person, traces, patience, requests.request, yes=yes, as_json=as_json))


def _erase(
    deployment: Deployment,
    person: Person,
    traces: Sequence[Trace],
    patience: float,
    request: str | None,
    *,
    yes: bool,
    as_json: bool,
) -> int:
    if not yes:
        click.confirm("Erase this person? Nothing brings the data back.", abort=True)
    result = asyncio.run(erase(deployment, person, traces, patience, Terminal()))
    _print_result(result, as_json=as_json)
    settle(deployment, request, is_gone=not result.remaining and not result.absent)
    return _status(result.remaining)


def _status(remaining: Sequence[Remaining]) -> int:
    if not remaining:
        return 0
    return _REMAINS_FOR_EVER if any(trace.until is None for trace in remaining) else _REMAINS


def _person(settings: Settings, page: str | None, psid: str | None) -> Person:
    if page is None or psid is None:
        raise click.UsageError("give --page and --psid, or --requests, or --resolve")
    aliases = load_pages(settings, os.environ, tokens=False).aliases
    return Person(aliases.get(PageId(page), PageId(page)), Psid(psid))


def _lines(file: Any) -> list[str]:
    """The lines of a file, if one is given, that are not empty."""
    return [text for line in file or () if (text := line.rstrip("\r\n"))]


def _print_traces(traces: Sequence[Trace], *, as_json: bool) -> None:
    """Places and counts; never the content."""
    if as_json:
        print_json(json.dumps({"found": [asdict(trace) for trace in traces]}, indent=2))
        return
    for trace in traces:
        say(f"{trace.kind} {trace.place}: {trace.count}")
    if not traces:
        say("Nothing is found.")


def _print_result(result: Result, *, as_json: bool) -> None:
    if as_json:
        remaining = [
            {**asdict(left.trace), "until": left.until and left.until.isoformat()} for left in result.remaining
        ]
        plain = {
            "erased_at": result.at.isoformat(),
            "not_running": list(result.absent),
            "complete": not remaining,
            "remaining": remaining,
        }
        print_json(json.dumps(plain, indent=2))
        return
    at = result.at.isoformat(timespec="seconds")
    say(f"Erased: everything received up to {at} is ignored, and no replay brings it back.")
    for name in result.absent:
        say(f"`leadstream {name}` does not run: its data is erased when it does")
    for left in result.remaining:
        say(f"{left.trace.kind} {left.trace.place}: {left.trace.count} {_until(left)}")
    say("Complete." if not result.remaining else "Not complete yet: check with --verify when that time has come.")


def _until(left: Remaining) -> str:
    if left.until is None:
        return "left for ever: set LEADSTREAM_RETENTION, then `leadstream topics apply`"
    return f"left until {left.until.isoformat(timespec='seconds')} at the latest"
