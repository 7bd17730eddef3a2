"""`leadstream dlq …`: dead letters by reason, topic and time, and their way back once the cause is fixed."""

import asyncio
import getpass
import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import click

from cli import options
from cli.terminal import MASKED, Terminal, say
from operations.dead_letters.letters import SETTLED, Discard, Letter, Standing, Wanted, grouped
from operations.dead_letters.redrive import (
    MOST_REDRIVES,
    REFUSED_FROM,
    Selection,
    close,
    find_letters,
    send_back,
)
from operations.deployment import Deployment, current_settings
from runtime.clock import now

_filters = options.options(
    click.option(
        "--topic", metavar="TOPIC", type=click.Choice(list(REFUSED_FROM)), help="The topic they were refused from."
    ),
    click.option("--reason", default="", help="A part of the reason, or of the error's name."),
    click.option(
        "--since", type=options.TimeType(), help="Refused at this time or later, in UTC unless it says otherwise."
    ),
    click.option("--until", type=options.TimeType(), help="Refused before this time."),
)
_ids = click.argument("ids", metavar="[ID]...", nargs=-1, callback=lambda _context, _argument, ids: frozenset(ids))


@click.group()
def command() -> None:
    """List, show, send back or discard dead letters."""


@command.command("list")
@_filters
@click.option("--each", is_flag=True, help="One line for each letter, with its id.")
@click.option("--all", "every", is_flag=True, help="Also letters that need nothing more.")
def list_letters(*, each: bool, every: bool, **wanted: Any) -> None:
    """List the dead letters that need action, in groups.

    A group has one topic, stage and reason; the last line counts all letters.

    \b
    A letter is
      open        it may be redriven
      stopped     refused again each time; only --most-redrives sends it back
      erased      its person was erased since
      foreign     its headers do not say where it comes from
      redriven    it has gone back
      discarded   it was closed for good; `show` says by whom and why
      superseded  its key has a newer record in a compacted topic

    \b
    Example:
      leadstream dlq list --topic messenger-webhooks --since 2026-05-05
      leadstream dlq list --reason not_json --each
    """
    selection = asyncio.run(find_letters(_deployment(), Wanted(**wanted)))
    listed = [(letter, standing) for letter, standing in selection.letters if every or standing not in SETTLED]
    if each:
        for letter, standing in listed:
            say(f"{_seconds(letter.refused_at)}  {letter.id}  {standing}  {_why(letter)}")
    else:
        standings = {letter.id: standing for letter, standing in listed}
        for group in grouped(letter for letter, _ in listed):
            _print_group(group, standings)
    _print_count(selection)


@command.command("show")
@click.argument("letter_id", metavar="ID")
@click.option("--show-pii", is_flag=True, help="Print the key and the value, which are about a person.")
def show(*, letter_id: str, show_pii: bool) -> None:
    """Show one dead letter.

    ID is TOPIC/PARTITION/OFFSET, as `list --each` prints it.

    \b
    Example:
      leadstream dlq show messenger-webhooks-dlq/3/41
    """
    selection = asyncio.run(find_letters(_deployment(), Wanted(ids=frozenset([letter_id]))))
    ((letter, standing),) = selection.letters
    origin = "unknown" if letter.origin is None else "{}/{}".format(*letter.origin)
    value = letter.value
    size = "null" if value is None else f"{len(value)} bytes, SHA-256 {hashlib.sha256(value).hexdigest()}"
    discard = selection.discards.get(letter.id)
    closed = "" if discard is None else f"; by {discard.by} at {discard.at}: {discard.because}"
    for name, text in (
        ("refused", f"{_seconds(letter.refused_at)} by {letter.stage}: {letter.fault}: {letter.reason}"),
        ("origin", f"{letter.origin_topic}/{origin}"),
        ("standing", f"{standing}, redriven {letter.redrives} times before{closed}"),
        ("headers", ", ".join(header for header, _ in letter.headers) or "none"),
        ("key", _text(letter.key) if show_pii else MASKED),
        ("size", size),
        ("value", _text(value) if show_pii else MASKED),
    ):
        say(f"{name:9} {text}")


@command.command("redrive")
@_ids
@_filters
@click.option("--limit", type=click.IntRange(1), help="How many at most, the oldest first.")
@click.option(
    "--most-redrives",
    type=click.IntRange(1),
    default=MOST_REDRIVES,
    show_default=True,
    help="A letter that was refused again after so many redrives stays where it is.",
)
@click.option("--yes", is_flag=True, help="Send them; without it nothing is sent.")
def redrive(*, limit: int | None, most_redrives: int, yes: bool, **wanted: Any) -> None:
    """Send dead letters back to the stage that refused them.

    The same bytes go to the same partition. Without --yes the command only prints what it would send. Fix the cause
    first, then try one letter with --limit 1: a letter that is refused again comes back with a higher count. For the
    join, a webhook is received when it goes back.

    \b
    Example:
      leadstream dlq redrive --topic messenger-webhooks --reason not_json
      leadstream dlq redrive --reason not_json --limit 1 --yes
    """
    deployment = _deployment()
    selection = asyncio.run(find_letters(deployment, Wanted(**wanted), most_redrives))
    _print_count(selection)
    letters = selection.of("open")[:limit]
    if yes:
        asyncio.run(send_back(deployment, letters, Terminal()))
        say(f"{len(letters)} sent back")
        return
    for group in grouped(letters):
        say(f"would send {len(group)} to {group[0].origin_topic}: {_why(group[0])}")
    say("Nothing was sent: --yes sends them")


@command.command("discard")
@_ids
@_filters
@click.option("--because", metavar="TEXT", help="Why nothing is lost by it; without any text that a person wrote.")
@click.option("--by", metavar="NAME", help="The person who answers for it.  [default: the user of this machine]")
@click.option("--undo", is_flag=True, help="Open again what was discarded.")
@click.option("--yes", is_flag=True, help="Do it; without it nothing is done.")
def discard(*, because: str | None, by: str | None, undo: bool, yes: bool, **wanted: Any) -> None:
    """Close dead letters for good, as bytes that no release can read.

    Their bytes stay where they are. `list` no longer shows them, `redrive` skips them, and `dead-letter-redrives`
    keeps who discarded them, when and why.

    \b
    Example:
      leadstream dlq discard --reason no_value --because "a producer's test" --yes
      leadstream dlq discard messenger-webhooks-dlq/3/41 --because "no webhook"
    """
    why = (because or "").strip()
    if undo == bool(why):
        raise click.UsageError("give either --because with a reason or --undo")
    deployment = _deployment()
    selection = asyncio.run(find_letters(deployment, Wanted(**wanted)))
    _print_count(selection)
    letters = selection.of("discarded") if undo else selection.of("open", "stopped", "foreign")
    if not yes:
        verb = "open again" if undo else "discard"
        for group in grouped(letters):
            say(f"would {verb} {len(group)} of {group[0].origin_topic}: {_why(group[0])}")
        say("Nothing was done: --yes does it")
        return
    record = None if undo else Discard(now().isoformat(), by or _user(), why)
    asyncio.run(close(deployment, letters, record, Terminal()))
    say(f"{len(letters)} {'opened again' if undo else 'discarded'}")


def _deployment() -> Deployment:
    return Deployment.of(current_settings(), with_ids=False)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        return "unknown"


def _print_count(selection: Selection) -> None:
    say(f"{len(selection.letters)} dead letters: {selection.count()}")


def _print_group(group: Sequence[Letter], standings: Mapping[str, Standing]) -> None:
    counts = Counter(standings[letter.id] for letter in group)
    summary = ", ".join(f"{count} {standing}" for standing, count in sorted(counts.items()))
    say(f"{group[0].origin_topic}  {_why(group[0])}")
    say(f"    {summary}; {_seconds(group[0].refused_at)} to {_seconds(group[-1].refused_at)}; {group[-1].id}")


def _why(letter: Letter) -> str:
    return f"{letter.stage}: {letter.fault}: {letter.reason}"


def _seconds(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds")


def _text(value: bytes | None) -> str:
    return "null" if value is None else value.decode(errors="backslashreplace")
