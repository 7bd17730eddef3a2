"""`leadstream dlq …`: dead letters by reason, topic and time, and their way back once the cause is mended."""

import asyncio
import getpass
import hashlib
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

import click

from cli.terminal import one_line, say
from messenger.events import PageId, Psid
from operations.broker import broker_of, kafka_answers
from operations.dead_letters.letters import (
    SETTLED,
    Discard,
    Group,
    Known,
    Letter,
    Standing,
    Wanted,
    grouped,
    newest_offsets,
    read_letter,
)
from operations.dead_letters.redrive import close, remembered, send_back
from operations.deployment import erasures_now
from operations.environment import current_settings
from runtime.clock import now
from runtime.cluster import Cluster
from runtime.settings import Settings
from runtime.topic_reading import TopicMissing, records_now
from schemas.topics import TOPICS, Topic

_CLIENT = "leadstream-dlq"
_MASK = "[masked; see --show-pii]"
_MOST_REDRIVES = 3
_TIMES = ("%Y-%m-%d", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%S%z")

_NAMES = {topic.name for topic in TOPICS}
_REFUSING = {topic.name: topic for topic in TOPICS if topic.dead_letters in _NAMES}

_Result = TypeVar("_Result")
_Command = Callable[..., None]


@dataclass(frozen=True, slots=True)
class _Found:
    """The letters that were asked for, oldest first, each with whether it may go, and what is known of discards."""

    letters: tuple[tuple[Letter, Standing], ...]
    discards: Mapping[str, Discard]

    def of(self, standing: Standing) -> list[Letter]:
        return [letter for letter, its in self.letters if its == standing]

    def count(self) -> str:
        counts = Counter(standing for _, standing in self.letters)
        return ", ".join(f"{count} {standing}" for standing, count in sorted(counts.items())) or "none"


def _utc(_ctx: click.Context, _param: click.Parameter, moment: datetime | None) -> datetime | None:
    return moment.replace(tzinfo=UTC) if moment is not None and moment.tzinfo is None else moment


def _filters(wanted: _Command) -> _Command:
    """The options that choose letters; times without a zone are UTC."""
    for option in (
        click.option(
            "--until", metavar="TIME", type=click.DateTime(_TIMES), callback=_utc, help="Refused before this time."
        ),
        click.option(
            "--since", metavar="TIME", type=click.DateTime(_TIMES), callback=_utc, help="Refused at this time or later."
        ),
        click.option("--reason", default="", help="A part of the reason, or of the error's name."),
        click.option("--topic", type=click.Choice(list(_REFUSING)), help="The topic they were refused from."),
    ):
        wanted = option(wanted)
    return wanted


@click.group()
def command() -> None:
    """Look at dead letters, send them back once the cause is mended, or close for good what nothing mends."""


@command.command("list")
@_filters
@click.option("--each", is_flag=True, help="One line for each letter, with its id.")
@click.option("--all", "every", is_flag=True, help="Those too about which nothing is left to do.")
def list_letters(
    *, topic: str | None, reason: str, since: datetime | None, until: datetime | None, each: bool, every: bool
) -> None:
    """List the dead letters that want somebody, by the topic, the stage and the reason; the last line counts all.

    \b
    A letter is
      open        it may be redriven
      stopped     it was refused again each time; nothing sends it back but --most-redrives
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
    found = _ask(_find(current_settings(), topic, Wanted(reason, since, until)))
    listed = [(letter, standing) for letter, standing in found.letters if every or standing not in SETTLED]
    if each:
        for letter, standing in listed:
            say(f"{_shown(letter.refused_at)}  {letter.id}  {standing}  {_why(letter)}")
    else:
        standings = {letter.id: standing for letter, standing in listed}
        for group in grouped(letter for letter, _ in listed):
            _print_group(group, standings)
    say(f"{len(found.letters)} dead letters: {found.count()}")


@command.command("show")
@click.argument("letter_id", metavar="ID")
@click.option("--show-pii", is_flag=True, help="Print the key and the value, which are about a person.")
def show(*, letter_id: str, show_pii: bool) -> None:
    """Show one dead letter; ID is TOPIC/PARTITION/OFFSET, as `list --each` gives it.

    \b
    Example:
      leadstream dlq show messenger-webhooks-dlq/3/41
    """
    found = _ask(_find(current_settings(), None, Wanted(ids=frozenset([letter_id]))))
    if not found.letters:
        raise click.ClickException(f"there is no dead letter {letter_id}: see `leadstream dlq list --each`")
    ((letter, standing),) = found.letters
    origin = "unknown" if letter.origin is None else "{}/{}".format(*letter.origin)
    value = letter.value
    size = "null" if value is None else f"{len(value)} bytes, SHA-256 {hashlib.sha256(value).hexdigest()}"
    for name, said in (
        ("refused", f"{_shown(letter.refused_at)} by {letter.stage}: {letter.fault}: {letter.reason}"),
        ("origin", f"{letter.origin_topic}/{origin}"),
        ("standing", f"{standing}, redriven {letter.redrives} times before{_said(found.discards.get(letter.id))}"),
        ("headers", ", ".join(name for name, _ in letter.headers) or "none"),
        ("key", _text(letter.key) if show_pii else _MASK),
        ("size", size),
        ("value", _text(value) if show_pii else _MASK),
    ):
        say(f"{name:9} {one_line(said)}")


@command.command("redrive")
@click.argument("ids", metavar="[ID]...", nargs=-1)
@_filters
@click.option("--limit", type=click.IntRange(1), help="At most so many, the oldest first.")
@click.option(
    "--most-redrives",
    type=click.IntRange(1),
    default=_MOST_REDRIVES,
    show_default=True,
    help="A letter that was refused again after so many redrives stays where it is.",
)
@click.option("--yes", is_flag=True, help="Send them; without it nothing is sent.")
def redrive(
    *,
    ids: tuple[str, ...],
    topic: str | None,
    reason: str,
    since: datetime | None,
    until: datetime | None,
    limit: int | None,
    most_redrives: int,
    yes: bool,
) -> None:
    """Send dead letters back to the stage that refused them: the same bytes, to the same partition.

    Without --yes it only says what it would send. Mend the cause first, then try one with --limit 1: what is refused
    again comes back as a new dead letter with a higher count. A webhook is received, for the join, when it goes back.

    \b
    Example:
      leadstream dlq redrive --topic messenger-webhooks --reason not_json
      leadstream dlq redrive --topic messenger-webhooks --reason not_json --limit 1 --yes
    """
    settings, wanted = current_settings(), Wanted(reason, since, until, frozenset(ids))
    found = _asked_for(settings, ids, wanted, topic, most_redrives)
    going = found.of("open")[:limit]
    if yes:
        _ask(send_back(settings, going))
        say(f"{len(going)} sent back")
        return
    for group in grouped(going):
        say(f"would send {len(group.letters)} to {group.first.origin_topic}: {_why(group.first)}")
    say("Nothing was sent: --yes sends them")


@command.command("discard")
@click.argument("ids", metavar="[ID]...", nargs=-1)
@_filters
@click.option("--because", metavar="TEXT", help="Why nothing is lost by it; keep what people wrote out of it.")
@click.option("--by", metavar="NAME", help="Who answers for it.  [default: the user of this machine]")
@click.option("--undo", is_flag=True, help="Open again what was discarded.")
@click.option("--yes", is_flag=True, help="Do it; without it nothing is done.")
def discard(
    *,
    ids: tuple[str, ...],
    topic: str | None,
    reason: str,
    since: datetime | None,
    until: datetime | None,
    because: str | None,
    by: str | None,
    undo: bool,
    yes: bool,
) -> None:
    """Close dead letters for good that nothing mends: bytes that no release will ever read.

    Their bytes stay where they are; `list` shows them no longer, `redrive` leaves them alone, and
    `dead-letter-redrives` keeps who discarded them, when and why.

    \b
    Example:
      leadstream dlq discard --reason no_value --because "a producer's test" --yes
      leadstream dlq discard messenger-webhooks-dlq/3/41 --because "no webhook" --yes
    """
    why = (because or "").strip()
    if undo == bool(why):
        raise click.UsageError("give either --because with a reason or --undo")
    settings = current_settings()
    found = _asked_for(settings, ids, Wanted(reason, since, until, frozenset(ids)), topic)
    closing = [one for one, its in found.letters if (its == "discarded" if undo else its not in SETTLED)]
    if not yes:
        what = "open again" if undo else "discard"
        for group in grouped(closing):
            say(f"would {what} {len(group.letters)} of {group.first.origin_topic}: {_why(group.first)}")
        say("Nothing was done: --yes does it")
        return
    said = None if undo else Discard(now().isoformat(), by or _user(), why)
    _ask(close(settings, closing, said))
    say(f"{len(closing)} {'opened again' if undo else 'discarded'}")


def _asked_for(
    settings: Settings, ids: Sequence[str], wanted: Wanted, topic: str | None, most_redrives: int = _MOST_REDRIVES
) -> _Found:
    """The letters, counted on the terminal; a `ClickException` when one of `ids` is none."""
    found = _ask(_find(settings, topic, wanted, most_redrives))
    missing = set(ids) - {letter.id for letter, _ in found.letters}
    if missing:
        raise click.ClickException(f"there is no dead letter {min(missing)}: see `leadstream dlq list --each`")
    say(f"{len(found.letters)} dead letters: {found.count()}")
    return found


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        return "unknown"


def _said(discarded: Discard | None) -> str:
    return "" if discarded is None else f"; by {discarded.by} at {discarded.at}: {discarded.because}"


def _print_group(group: Group, standings: dict[str, Standing]) -> None:
    counts = Counter(standings[letter.id] for letter in group.letters)
    said = ", ".join(f"{count} {standing}" for standing, count in sorted(counts.items()))
    say(f"{one_line(group.first.origin_topic)}  {_why(group.first)}")
    say(f"    {said}; {_shown(group.first.refused_at)} to {_shown(group.last.refused_at)}; {group.last.id}")


def _why(letter: Letter) -> str:
    return one_line(f"{letter.stage}: {letter.fault}: {letter.reason}")


def _shown(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds")


def _text(value: bytes | None) -> str:
    return "null" if value is None else value.decode(errors="backslashreplace")


async def _find(settings: Settings, topic: str | None, wanted: Wanted, most_redrives: int = _MOST_REDRIVES) -> _Found:
    broker = broker_of(settings)
    chosen = [one for one in _REFUSING.values() if topic in (None, one.name)]
    origins = {settings.topic(one.dead_letters): settings.topic(one.name) for one in chosen}
    letters = [
        letter
        async for record in records_now(broker, origins, client_id=_CLIENT)
        if wanted.takes(letter := read_letter(record, origins[record.topic]))
    ]
    gone, discards = await remembered(broker, settings)
    newest, erased = await _newest(broker, settings, chosen, letters), await _erased(broker, settings, letters)
    known = Known(gone, newest, most_redrives, discards, erased)
    letters.sort(key=lambda letter: (letter.refused_at, letter.id))
    return _Found(tuple((letter, known.standing(letter)) for letter in letters), discards)


async def _newest(
    broker: Cluster, settings: Settings, chosen: list[Topic], letters: list[Letter]
) -> dict[tuple[str, bytes | None], int]:
    compacted = {settings.topic(one.name) for one in chosen if one.cleanup == "compact"}
    asked = compacted & {letter.origin_topic for letter in letters}
    return newest_offsets([record async for record in records_now(broker, asked, client_id=_CLIENT)])


async def _erased(broker: Cluster, settings: Settings, letters: list[Letter]) -> set[str]:
    """The letters under the key of somebody who was erased since they were refused."""
    known, found = await erasures_now(settings, broker), set()
    for letter in letters:
        page_id, _, psid = (letter.key or b"").decode(errors="replace").partition(":")
        if psid and known.cover(PageId(page_id), Psid(psid), letter.refused_at):
            found.add(letter.id)
    return found


def _ask(question: Coroutine[Any, Any, _Result]) -> _Result:
    try:
        with kafka_answers():
            return asyncio.run(question)
    except TopicMissing as fault:
        raise click.ClickException(str(fault)) from None
