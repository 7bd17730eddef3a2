"""`leadstream erase`: everything that is held of one person, taken out of everywhere, and proof of it."""

import asyncio
import json
import os
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypeVar

import click

from cli.erase_requests import Asked, answer_alone, request_options, settle
from cli.meta_id import META_ID
from cli.progress import counted
from cli.terminal import say
from messenger.events import PageId, Psid
from operations.broker import broker_of, kafka_answers
from operations.configuration import load_pages
from operations.deployment import erasures_now, schema_ids
from operations.environment import current_settings
from operations.erase.steps import Erasure, NotPassed, Person
from operations.erase.traces import Trace, in_files, in_server, in_topics, needles, replay_of
from runtime.cluster import Cluster
from runtime.settings import Settings
from runtime.topic_admin import ExistingTopic, delete_topics, existing_topics, partition_counts
from runtime.topic_reading import TopicMissing
from schemas.codec import Ids
from sinks.consume import Unusable
from streams.replay.shadow import Shadow

_Answer = TypeVar("_Answer")

_REMAINS, _REMAINS_FOR_EVER = 3, 4
_DISK_TIDIED_WITHIN = timedelta(days=2)
_SINKS = ("sink send", "sink warehouse")


@dataclass(frozen=True, slots=True)
class _Remaining:
    """A trace, and when it is gone at the latest; None is never."""

    trace: Trace
    until: datetime | None


@click.command()
@click.option("--page", type=META_ID, help="The Page that the id belongs to.")
@click.option("--psid", type=META_ID, help="The person's Page-scoped id; - reads it from stdin.")
@request_options
@click.option("--dry-run", is_flag=True, help="Say where the person is found, and change nothing.")
@click.option("--verify", is_flag=True, help="Search everything, and end with 0 when nothing is found, else with 1.")
@click.option(
    "--also",
    type=click.File(encoding="utf-8"),
    help="With --verify: a file of answers or texts, one a line, to search for too; - is stdin.",
)
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option(
    "--wait",
    "patience",
    type=click.FloatRange(min=1),
    default=60.0,
    show_default=True,
    help="Seconds to wait for each stage to pass the erasure.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
@click.pass_context
def command(
    context: click.Context,
    *,
    page: str | None,
    psid: str | None,
    asked: Asked,
    dry_run: bool,
    verify: bool,
    also: Any,
    yes: bool,
    patience: float,
    as_json: bool,
) -> None:
    """Forget a person: state, leads, ledger, replays and warehouse at once, webhooks when their retention has passed.

    Nobody is told, nothing more is sent, no replay brings the person back; who writes again later is a new person.

    \b
    Ends with 0 when nothing is left, with 3 when something is left until a time that is told, with 4 when something
    is left for ever because LEADSTREAM_RETENTION is not set, with 1 when nobody was found or a stage has not passed.
    Run it again at any time: it does what is left to do.

    A PSID on the command line stays in the shell's history: --psid - reads it from stdin.

    Requests that came through Meta's data-deletion callback know an app-scoped id and no PSID: --requests lists those
    that are open, --request resolves one along with its erasure, --resolve without.

    \b
    Example:
      leadstream erase --page 542998526103632 --psid 5794982867201265 --dry-run
      leadstream erase --page 542998526103632 --psid - --yes < psid.txt
      leadstream erase --page 542998526103632 --psid - --verify < psid.txt
      leadstream erase --requests
      leadstream erase --page 542998526103632 --psid - --request DE4G4KSVN3W7QXJZ2HTM6PBA --yes < psid.txt
      leadstream erase --resolve DE4G4KSVN3W7QXJZ2HTM6PBA --note-nothing-held
    """
    settings = current_settings()
    if answer_alone(settings, asked, as_json=as_json):
        return
    person = _person(settings, page, psid)
    if also is not None and not verify:
        raise click.UsageError("--also is for --verify")
    show = _Report(as_json=as_json)
    if verify:
        found = _ask(_search(settings, [person.psid, *_texts(also)]))
        show.found(found)
        settle(settings, asked, is_gone=not found and _ask(_is_known(settings, person)))
        context.exit(1 if found else 0)
    ids, found = schema_ids(settings), _ask(_search(settings, [person.psid]))
    known = _ask(_is_known(settings, person))
    if not found and not known:
        raise click.ClickException("nobody with this id was found on this Page: nothing to erase")
    if dry_run:
        show.found(found)
        return
    if not as_json:
        show.found(found)
    if not yes:
        click.confirm("Erase this person? Nothing brings them back.", abort=True)
    at, absent = _ask(_erase(settings, ids, person, found, patience))
    remaining = _ask(_remaining(settings, person.psid, at))
    show.erased(at, absent, remaining)
    settle(settings, asked, is_gone=not remaining and not absent)
    context.exit(_status(remaining))


def _status(remaining: Sequence[_Remaining]) -> int:
    if not remaining:
        return 0
    return _REMAINS_FOR_EVER if any(one.until is None for one in remaining) else _REMAINS


def _person(settings: Settings, page: str | None, psid: str | None) -> Person:
    if page is None or psid is None:
        raise click.UsageError("give --page and --psid, or --requests, or --resolve")
    aliases = load_pages(settings, os.environ, tokens=False).aliases
    return Person(aliases.get(PageId(page), PageId(page)), Psid(psid))


def _texts(also: Any) -> list[str]:
    """The lines of a file, if there is one, that have anything in them."""
    return [text for line in also or () if (text := line.rstrip("\r\n"))]


async def _search(settings: Settings, texts: Sequence[str]) -> list[Trace]:
    wanted, broker = needles(texts), broker_of(settings)
    with counted("records read") as on_read:
        found = await in_topics(settings, broker, wanted, on_read)
    with counted("files read") as on_read:
        found += await asyncio.to_thread(in_files, settings, wanted, on_read)
    return found + await asyncio.to_thread(in_server, settings, wanted)


async def _is_known(settings: Settings, person: Person) -> bool:
    """Whether the person was erased before."""
    return (await erasures_now(settings, broker_of(settings))).until(person.page_id, person.psid) is not None


async def _erase(
    settings: Settings, ids: Ids, person: Person, found: Sequence[Trace], patience: float
) -> tuple[datetime, list[str]]:
    broker = broker_of(settings)
    async with Erasure.on(settings, broker, ids, patience) as erasure:
        _say("Entering the erasure")
        fact, since = await erasure.declare(person)
        _say("Waiting for the join")
        await erasure.until_the_join_has_passed(person, fact, since)
        _say("Waiting for the sinks")
        absent = await erasure.until_sinks_have_passed({fact.place: fact.offset + 1}, _SINKS)
        with counted("records read") as on_read:
            ends = await erasure.bury(person, fact.at, on_read)
        await _drop_replays(settings, broker, found)
        absent += await erasure.until_sinks_have_passed(ends, _SINKS[1:]) if ends else []
    return fact.at, sorted(set(absent))


async def _drop_replays(settings: Settings, broker: Cluster, found: Sequence[Trace]) -> None:
    names = {name for one in found if one.kind == "topic" and (name := replay_of(settings, one.place)) is not None}
    for name in sorted(names):
        topics = [topic.name for topic in Shadow(settings, name).topics]
        await delete_topics(broker, list(await partition_counts(broker, topics)))
        _say(f"Dropped the replay {name}, which had the person: run it again where it is wanted")


async def _remaining(settings: Settings, psid: str, at: datetime) -> list[_Remaining]:
    found = await _search(settings, [psid])
    topics = await existing_topics(broker_of(settings), [one.place for one in found if one.kind == "topic"])
    return [_Remaining(one, _gone_at(topics.get(one.place), at)) for one in found]


def _gone_at(topic: ExistingTopic | None, at: datetime) -> datetime | None:
    """When what a topic has of somebody erased is gone at the latest; what lies in files goes as the disk is tidied."""
    if topic is None:
        return at + _DISK_TIDIED_WITHIN
    compact = "compact" in topic.config["cleanup.policy"]
    names = ("max.compaction.lag.ms", "delete.retention.ms") if compact else ("retention.ms", "segment.ms")
    millis = [int(topic.config[name]) for name in names]
    return None if millis[0] < 0 else at + timedelta(milliseconds=sum(millis))


class _Report:
    """Places and counts; never what was found."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json

    def found(self, found: Sequence[Trace]) -> None:
        if self._as_json:
            _print_json({"found": [_plain(one) for one in found]})
            return
        for one in found:
            say(f"{one.kind} {one.place}: {one.count}")
        if not found:
            say("Nothing is found.")

    def erased(self, at: datetime, absent: Sequence[str], remaining: Sequence[_Remaining]) -> None:
        if self._as_json:
            _print_json(
                {
                    "erased_at": at.isoformat(),
                    "not_running": list(absent),
                    "complete": not remaining,
                    "remaining": [
                        {**_plain(one.trace), "until": one.until and one.until.isoformat()} for one in remaining
                    ],
                }
            )
            return
        say(f"Erased: everything up to {at.isoformat(timespec='seconds')} is dead, and no replay brings it back.")
        for name in absent:
            say(f"`leadstream {name}` does not run: what it keeps is erased when it does")
        for one in remaining:
            say(f"{one.trace.kind} {one.trace.place}: {one.trace.count} {_left(one)}")
        say("Complete." if not remaining else "Not complete yet: look with --verify when that time has come.")


def _left(one: _Remaining) -> str:
    if one.until is None:
        return "left for ever: set LEADSTREAM_RETENTION, then `leadstream topics apply`"
    return f"left until {one.until.isoformat(timespec='seconds')} at the latest"


def _plain(one: Trace) -> dict[str, Any]:
    return {"kind": one.kind, "place": one.place, "count": one.count}


def _print_json(value: Any) -> None:
    say(json.dumps(value, indent=2))


def _say(text: str) -> None:
    say(text, err=True)


def _ask(question: Coroutine[Any, Any, _Answer]) -> _Answer:
    try:
        with kafka_answers():
            return asyncio.run(question)
    except (NotPassed, TopicMissing) as fault:
        raise click.ClickException(f"{fault} Run the command again: it goes on where it was.") from None
    except Unusable as fault:
        raise click.ClickException(str(fault)) from None
