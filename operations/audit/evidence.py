"""The evidence of texts and of promises in production: the echoes in the log, and the receipts of ingest."""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

from aiokafka import TopicPartition

from ingest.audit import NoReceipt, Promise, read_promises
from leads.pages import Pages
from messenger.events import EchoReceived, PageId
from operations.audit.history import Effect, decoded
from runtime.log_file import pieces_of
from runtime.mendable import Mendable
from schemas.codec import Ids, command_codec, event_codec
from schemas.topics import COMMANDS, EVENTS
from streams.records import Record

_COMMAND_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class NoPromises(Mendable):
    """There are no receipts to judge; the message says why."""


def echoes(topics: Mapping[str, Sequence[Record]], pages: Pages, ids: Ids) -> Iterator[Effect]:
    """The texts that echoes show, each once, by the command in their metadata.

    Metadata of no known command is a command's if the Page's app sent it, and it looks like one.
    """
    commands, codec = _commands(topics, ids), event_codec(ids)
    seen: set[str] = set()
    for record in topics[EVENTS.name]:
        event = decoded(codec, record)
        if not isinstance(event, EchoReceived) or event.metadata is None or event.psid is None or event.mid in seen:
            continue
        is_like_ours = _COMMAND_ID.fullmatch(event.metadata) and pages.get(event.page_id).is_named(event.app_id)
        if event.metadata in commands or is_like_ours:
            seen.add(event.mid)
            yield Effect(event.metadata, event.page_id, event.psid, event.event_at)


def silent_pages(topics: Mapping[str, Sequence[Record]], effects: Collection[Effect], ids: Ids) -> set[PageId]:
    """The Pages with commands of which no echo has come, as where the app has not subscribed to echoes."""
    return set(_commands(topics, ids).values()) - {effect.page_id for effect in effects}


def _commands(topics: Mapping[str, Sequence[Record]], ids: Ids) -> dict[str, PageId]:
    codec, commands = command_codec(ids), dict[str, PageId]()
    for record in topics[COMMANDS.name]:
        command = decoded(codec, record)
        if command is not None:
            commands[command.command_id] = command.page_id
    return commands


def promises_in(receipts: Path | None, spans: Mapping[TopicPartition, range]) -> list[Promise]:
    """The promises of the receipts file and its older pieces whose places all lie in these spans.

    A spooled delivery has no place: `leadstream verify` finds those in the whole log. Raises `NoPromises`.
    """
    if receipts is None:
        raise NoPromises("LEADSTREAM_RECEIPTS is not set, so that no answer of ingest was judged")
    kept: list[Promise] = []
    for piece in filter(Path.exists, pieces_of(receipts)):
        with piece.open(encoding="utf-8", errors="replace") as lines:
            try:
                kept += (line for line in read_promises(lines) if isinstance(line, Promise) and _is_in(line, spans))
            except NoReceipt as fault:
                raise NoPromises(f"{piece}: {fault}") from None
    return kept


def _is_in(promise: Promise, spans: Mapping[TopicPartition, range]) -> bool:
    return not promise.is_spooled and all(_is_place_in(place, spans) for place in promise.places)


def _is_place_in(place: str, spans: Mapping[TopicPartition, range]) -> bool:
    topic, *numbers = place.split("/")
    if len(numbers) != 2 or not all(number.isdecimal() for number in numbers):
        return False
    return int(numbers[1]) in spans.get(TopicPartition(topic, int(numbers[0])), ())
