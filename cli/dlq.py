"""`leadstream dlq …`: dead letters by reason, topic and time, and their way back once the cause is mended."""

import asyncio
import hashlib
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

import click
from aiokafka.errors import KafkaConnectionError, KafkaError
from rich.console import Console
from rich.progress import track

from cli.broker import broker_of
from cli.environment import current_settings
from runtime import kafka
from runtime.clock import now
from runtime.redrive import Group, Known, Letter, Standing, Wanted, grouped, newest_offsets, read_letter, sent_back
from runtime.settings import Settings
from runtime.topic_admin import existing_topics
from runtime.topic_snapshot import records_now
from schemas.topics import REDRIVES, TOPICS, Topic

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
    """The letters that were asked for, oldest first, each with whether it may go."""

    letters: tuple[tuple[Letter, Standing], ...]

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
    """Look at dead letters, and send them back once the cause is mended."""


@command.command("list")
@_filters
@click.option("--each", is_flag=True, help="One line for each letter, with its id.")
def list_letters(*, topic: str | None, reason: str, since: datetime | None, until: datetime | None, each: bool) -> None:
    """List dead letters by the topic, the stage and the reason.

    \b
    A letter is
      open        it may be redriven
      redriven    it has gone back
      stopped     it was refused again each time; nothing sends it back but --most-redrives
      superseded  its key has a newer record in a compacted topic
      foreign     its headers do not say where it comes from

    \b
    Example:
      leadstream dlq list --topic messenger-webhooks --since 2026-05-05
      leadstream dlq list --reason not_json --each
    """
    found = _ask(_find(current_settings(), topic, Wanted(reason, since, until)))
    if each:
        for letter, standing in found.letters:
            click.echo(f"{_shown(letter.refused_at)}  {letter.id}  {standing}  {_why(letter)}")
    else:
        standings = {letter.id: standing for letter, standing in found.letters}
        for group in grouped(letter for letter, _ in found.letters):
            _print_group(group, standings)
    click.echo(f"{len(found.letters)} dead letters: {found.count()}")


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
        ("standing", f"{standing}, redriven {letter.redrives} times before"),
        ("headers", ", ".join(name for name, _ in letter.headers) or "none"),
        ("key", _text(letter.key) if show_pii else _MASK),
        ("size", size),
        ("value", _text(value) if show_pii else _MASK),
    ):
        click.echo(f"{name:9} {said}")


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
    found = _ask(_find(settings, topic, wanted, most_redrives))
    missing = set(ids) - {letter.id for letter, _ in found.letters}
    if missing:
        raise click.ClickException(f"there is no dead letter {min(missing)}: see `leadstream dlq list --each`")
    going = found.of("open")[:limit]
    click.echo(f"{len(found.letters)} dead letters: {found.count()}")
    if yes:
        _ask(_send_back(settings, going))
        click.echo(f"{len(going)} sent back")
        return
    for group in grouped(going):
        click.echo(f"would send {len(group.letters)} to {group.first.origin_topic}: {_why(group.first)}")
    click.echo("Nothing was sent: --yes sends them")


def _print_group(group: Group, standings: dict[str, Standing]) -> None:
    counts = Counter(standings[letter.id] for letter in group.letters)
    said = ", ".join(f"{count} {standing}" for standing, count in sorted(counts.items()))
    click.echo(f"{group.first.origin_topic}  {_why(group.first)}")
    click.echo(f"    {said}; {_shown(group.first.refused_at)} to {_shown(group.last.refused_at)}; {group.last.id}")


def _why(letter: Letter) -> str:
    return f"{letter.stage}: {letter.fault}: {letter.reason}"


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
    known = Known(await _gone(broker, settings), await _newest(broker, settings, chosen, letters), most_redrives)
    letters.sort(key=lambda letter: (letter.refused_at, letter.id))
    return _Found(tuple((letter, known.standing(letter)) for letter in letters))


async def _gone(broker: str, settings: Settings) -> set[str]:
    topic = settings.topic(REDRIVES.name)
    return {record.key.decode() async for record in records_now(broker, [topic], client_id=_CLIENT)}


async def _newest(
    broker: str, settings: Settings, chosen: list[Topic], letters: list[Letter]
) -> dict[tuple[str, bytes | None], int]:
    compacted = {settings.topic(one.name) for one in chosen if one.cleanup == "compact"}
    asked = compacted & {letter.origin_topic for letter in letters}
    return newest_offsets([record async for record in records_now(broker, asked, client_id=_CLIENT)])


async def _send_back(settings: Settings, letters: list[Letter]) -> None:
    """Send each letter, then remember that it went: a crash in between sends it twice, and loses none."""
    broker, redrives = broker_of(settings), settings.topic(REDRIVES.name)
    if not await existing_topics(broker, [redrives]):
        raise click.ClickException(f"the topic {redrives} is missing: run `leadstream topics apply`")
    producer = kafka.producer(broker, client_id=_CLIENT)
    await producer.start()
    try:
        for letter in track(letters, "sending back", console=Console(stderr=True), transient=True, disable=not letters):
            key, value, headers = sent_back(letter)
            assert letter.origin is not None, "an open letter has an origin"
            await producer.send_and_wait(
                letter.origin_topic, value, key=key, headers=headers, partition=letter.origin[0]
            )
            await producer.send_and_wait(redrives, now().isoformat().encode(), key=letter.id.encode())
    finally:
        await producer.stop()


def _ask(question: Coroutine[Any, Any, _Result]) -> _Result:
    try:
        return asyncio.run(question)
    except KafkaConnectionError:
        raise click.ClickException(
            "Kafka does not answer: see `leadstream kafka status` or LEADSTREAM_BROKER"
        ) from None
    except KafkaError as fault:
        raise click.ClickException(f"Kafka refused: {type(fault).__name__}") from None
