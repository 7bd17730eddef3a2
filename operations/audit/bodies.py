"""The bodies of Meta's, by a reading of their own: their signals show in leads, and their messages in events."""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from leads.erasures import Erasures
from leads.pages import Page, Pages, is_canary
from leads.records import Lead
from messenger.events import AppId, EchoReceived, MessageReceived, PageId, Psid, SummaryReceived
from operations.audit.history import Finding, History, decoded, place_of
from operations.audit.intake import origin_of
from runtime.clock import to_millis
from schemas.codec import event_codec, lead_codec
from schemas.copies import copy_of
from schemas.topics import EVENTS, LEADS, WEBHOOKS
from streams.records import Record

# A second handover that differs from a known one in its stamp alone, within a minute, is a copy of it.
_COPIES = 60_000
Person = tuple[PageId, Psid]
_Message = tuple[str, str, str]


class Item(NamedTuple):
    """An item about a person, and its record; `standby` is one of another app's thread."""

    record: Record
    person: Person
    fields: Mapping[str, Any]
    standby: bool


def items_in(history: History, pages: Pages, erasures: Erasures) -> list[Item]:
    """The items of the webhooks that are judged, but for those of the canary and of people who were erased."""
    return [
        Item(record, (page_id, psid), fields, standby)
        for record in history.of(WEBHOOKS)
        if history.spans_over(record.topic, record.partition, record.offset)
        for named, psid, fields, standby in items_of(record.value or b"")
        if not is_canary(page_id := pages.aliases.get(named, named)) and erasures.until(page_id, psid) is None
    ]


def leads_of(history: History) -> Mapping[Person, Sequence[Lead]]:
    """The leads of each person, the latest revision last."""
    leads: defaultdict[Person, list[Lead]] = defaultdict(list)
    codec = lead_codec(history.ids)
    for record in history.of(LEADS):
        lead = decoded(codec, record)
        if lead is not None:
            leads[lead.page_id, lead.psid].append(lead)
    for revisions in leads.values():
        revisions.sort(key=lambda lead: lead.revision)
    return leads


def unused_items(
    history: History, items: Iterable[Item], leads: Mapping[Person, Sequence[Lead]], pages: Pages
) -> Iterator[Finding]:
    """The referrals and handovers that no lead shows, and the messages that no event shows."""
    messages = _messages(history)
    refused = {origin_of(letter) for letter in history.topics.get(WEBHOOKS.dead_letters, ())}
    for record, person, fields, standby in items:
        if not standby and not _is_shown(fields, leads[person], pages.get(person[0])):
            yield Finding("signal_without_lead", place_of(record))
        # The event of an item may come from another copy of the body, which may lie outside of the part.
        is_whole = history.spans is None or copy_of(record.headers) == (1, 1)
        mid = _mid_of(fields)
        is_event = mid is None or (*person, mid) in messages
        if is_whole and not is_event and place_of(record) not in refused:
            yield Finding("message_without_event", place_of(record))


def _messages(history: History) -> set[_Message]:
    codec = event_codec(history.ids)
    events = (decoded(codec, record) for record in history.of(EVENTS))
    return {
        (event.page_id, event.psid or "", event.mid)
        for event in events
        if isinstance(event, MessageReceived | SummaryReceived | EchoReceived)
    }


def items_of(body: bytes) -> Iterator[tuple[PageId, Psid, Mapping[str, Any], bool]]:
    """The items of a body that name a person: the Page as it is named there, the person, the item, if on standby."""
    for standby, item in _listed(body):
        with suppress(KeyError, TypeError, AttributeError):
            page, person = item["recipient"], item["sender"]
            if item.get("message", {}).get("is_echo"):
                page, person = person, page
            page_id, psid = str(page["id"]), str(person["id"])
            if page_id.isascii() and psid.isascii():
                yield PageId(page_id), Psid(psid), item, standby


def _listed(body: bytes) -> list[tuple[bool, Any]]:
    try:
        entries = json.loads(body)["entry"]
        lists = [(name == "standby", entry.get(name, ())) for entry in entries for name in ("messaging", "standby")]
        return [(standby, item) for standby, items in lists for item in items]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return []


def _is_shown(item: Mapping[str, Any], revisions: Sequence[Lead], page: Page) -> bool:
    """Whether a lead shows the item; an item that says something else, or that nobody can read, needs none."""
    try:
        referral, control = item.get("referral", {}), item.get("pass_thread_control", {})
        if str(referral.get("type", "")).startswith("LEAD_"):
            answers = [(pair["question"], pair["answer"]) for pair in item["lead"]["data"]]
            return any([(pair.question, pair.answer) for pair in lead.answers] == answers for lead in revisions)
        is_ours = page.is_target(AppId(str(control.get("new_owner_app_id"))))
        if is_ours and str(control.get("metadata", "")).startswith("messenger_lead_gen_"):
            stamp = item["timestamp"]
            times = [lead.handover_at for lead in revisions if lead.handover_at is not None]
            return any(abs(to_millis(at) - stamp) <= _COPIES for at in times)
    except (KeyError, TypeError, AttributeError):
        return True
    return True


def _mid_of(item: Mapping[str, Any]) -> str | None:
    """The id of a message; None of other items, and of a message that stands for the referral in it."""
    match item.get("message"):
        case {"referral": _}:
            return None
        case {"mid": str(mid)}:
            return mid
        case _:
            return None
