"""Every 200 is in the log or in the spool, and every item of the log ends in one named place."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import partial
from hashlib import sha256

from leads.erasures import Erasures
from leads.facts import JoinEvent, Progress
from leads.pages import Pages
from messenger.errors import UnreadableDelivery
from operations.audit.history import Finding, History, decoded, place_of
from runtime.dead_letter import PREFIX
from schemas.codec import command_codec, event_codec, transcript_request_codec
from schemas.copies import copy_of
from schemas.topics import COMMANDS, EVENTS, TRANSCRIPTS, WEBHOOKS
from streams.dead_letters import tried
from streams.records import Record, Refusal, event_key
from streams.split import Split, split

Key = tuple[str, bytes, str]


def unkept_promises(history: History) -> Iterator[Finding]:
    """The 200s whose body Kafka does not have at each place of the receipt, and the spool does not have either."""
    at: dict[str, str] = {}
    copies: defaultdict[str, dict[tuple[bytes, int], set[int]]] = defaultdict(dict)
    for record in history.of(WEBHOOKS) if history.promises else ():
        digest = sha256(record.value or b"").hexdigest()
        at[place_of(record)] = digest
        delivery = dict(record.headers).get("delivery-id", b"")
        number, count = copy_of(record.headers)
        copies[digest].setdefault((delivery, count), set()).add(number)
    for promise in history.promises:
        is_whole = any(len(numbers) == count for (_, count), numbers in copies[promise.digest].items())
        if not is_whole and promise.digest not in history.spooled:
            yield Finding("lost_webhook", promise.receipt)
        for place in sorted(() if promise.is_spooled else promise.places):
            if at.get(place) != promise.digest:
                yield Finding("other_bytes", place)


def unended_items(history: History, pages: Pages, erasures: Erasures) -> Iterator[Finding]:
    """The items that are neither an event, nor ignored, nor a dead letter; and events and letters without an item."""
    aside = set_aside(history.topics.get(WEBHOOKS.dead_letters, ()))
    expected, refused = _expected(history, pages, aside)
    found = judged_events(history)
    for key in expected.keys() - found.keys():
        if not erasures.kill(expected[key]):
            yield Finding("lost_event", f"{key[2]} {key[0]}")
    for key in found.keys() - expected.keys():
        if key[2] not in aside:
            yield Finding("event_without_item", f"{found[key]} {key[0]}")
    letters = {origin_of(record): place_of(record) for record in history.topics.get(WEBHOOKS.dead_letters, ())}
    for place in refused - letters.keys():
        yield Finding("lost_letter", place)
    for place in letters.keys() - refused - aside:
        if _is_judged(history, place):
            yield Finding("letter_without_item", letters[place])
    yield from _misplaced(history)


def judged_events(history: History) -> dict[Key, str]:
    """The events of the webhooks that are judged, with their places; of copies the last."""
    return {key: place for key, place in _events(history) if _is_judged(history, key[2])}


def _expected(history: History, pages: Pages, aside: Collection[str]) -> tuple[dict[Key, JoinEvent], set[str]]:
    """The events that the log makes, and the places of the webhooks in it that are refused."""
    expected: dict[Key, JoinEvent] = {}
    refused: set[str] = set()
    codec = event_codec(history.ids)
    for record in history.of(WEBHOOKS):
        place = place_of(record)
        if place in aside or not _is_judged(history, place):
            continue
        done = tried(record, partial(split, [record], pages.aliases, codec=codec))
        if isinstance(done, Refusal) or done.refused:
            refused.add(place)
        if isinstance(done, Split):
            expected.update((_key(event), event) for event in done.events)
    return expected, refused


def set_aside(letters: Iterable[Record]) -> set[str]:
    """The places of webhooks that an operator skipped, or that raised again and again: nothing became of them."""
    fault = f"{PREFIX}exception.class.name"
    refused_by_us = UnreadableDelivery.__name__.encode()
    return {origin_of(letter) for letter in letters if dict(letter.headers).get(fault, refused_by_us) != refused_by_us}


def _is_judged(history: History, place: str) -> bool:
    topic, _, numbers = place.partition("/")
    partition, _, offset = numbers.partition("/")
    if not (partition.isdecimal() and offset.isdecimal()):
        # The header of another writer.
        return history.spans is None
    return history.spans_over(topic, int(partition), int(offset))


def lost_letters(history: History) -> Iterator[Finding]:
    """The commands that nobody can read and no dead letter names."""
    codec = command_codec(history.ids)
    named = {origin_of(letter) for letter in history.topics.get(COMMANDS.dead_letters, ())}
    for record in history.of(COMMANDS):
        is_refused = record.value is not None and decoded(codec, record) is None
        if is_refused and place_of(record) not in named and history.is_done(record):
            yield Finding("lost_letter", place_of(record))


def unanswered_requests(history: History, erasures: Erasures) -> Iterator[Finding]:
    """The transcript requests that are done with, and that no fact in the log answers."""
    codec, facts = transcript_request_codec(history.ids), {event_id for (event_id, _, _), _ in _events(history)}
    for record in filter(history.is_done, history.of(TRANSCRIPTS)):
        request = decoded(codec, record)
        if request is None:
            continue
        erased = erasures.cover(request.page_id, request.psid, request.requested_at)
        if not erased and f"transcript:{request.lead_id}" not in facts:
            yield Finding("request_without_fact", place_of(record))


def _events(history: History) -> Iterator[tuple[Key, str]]:
    codec = event_codec(history.ids)
    for record in history.of(EVENTS):
        event = decoded(codec, record)
        if event is not None and not isinstance(event, Progress):
            yield _key(event), place_of(record)


def _misplaced(history: History) -> Iterator[Finding]:
    """Events of a person that come before an earlier one of the same partition of the log."""
    codec, last = event_codec(history.ids), dict[tuple[bytes, int, int], int]()
    seen: set[tuple[int, Key]] = set()
    for record in history.of(EVENTS):
        event = decoded(codec, record)
        if event is None or isinstance(event, Progress):
            continue
        key = _key(event)
        # Events of before a part of a history come again after `replay rebuild`.
        if (record.partition, key) in seen or not _is_judged(history, key[2]):
            continue
        seen.add((record.partition, key))
        line = (event_key(event), event.origin.partition, record.partition)
        if last.get(line, -1) > event.origin.offset:
            yield Finding("event_out_of_order", place_of(record))
        last[line] = max(event.origin.offset, last.get(line, -1))


def _key(event: JoinEvent) -> Key:
    origin = event.origin
    return event.event_id, event_key(event), f"{origin.topic}/{origin.partition}/{origin.offset}"


def origin_of(letter: Record) -> str:
    """The place that a dead letter names as its record's; it may be of another writer, who says anything."""
    headers: Mapping[str, bytes] = dict(letter.headers)
    parts = (headers.get(f"{PREFIX}{name}", b"") for name in ("topic", "partition", "offset"))
    return "/".join(part.decode(errors="replace") for part in parts)
