"""The bodies of Meta's, by a reading of their own: their signals show in leads, and their messages in events."""

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
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

# A second handover that differs from a known one in its stamp alone, within a minute, is a copy of it.
_COPIES = 60_000
_Message = tuple[str, str, str]


def unused_items(history: History, pages: Pages, erasures: Erasures) -> Iterator[Finding]:
    """The referrals and handovers that no lead shows, and the messages that no event shows."""
    leads, messages = _leads(history), _messages(history)
    refused = {origin_of(letter) for letter in history.topics.get(WEBHOOKS.dead_letters, ())}
    for record in history.of(WEBHOOKS):
        if not history.spans_over(record.topic, record.partition, record.offset):
            continue
        is_whole = history.spans is None or copy_of(record.headers) == (1, 1)
        for named, psid, item, standby in items_of(record.value or b""):
            if not (named.isascii() and psid.isascii()):
                continue
            page_id = pages.aliases.get(named, named)
            if is_canary(page_id) or erasures.until(page_id, psid) is not None:
                continue
            if not standby and not _is_shown(item, leads[page_id, psid], pages.get(page_id)):
                yield Finding("signal_without_lead", place_of(record))
            mid = _mid_of(item)
            is_event = mid is None or (page_id, psid, mid) in messages
            # The event of an item may come from another copy of the body, which may lie outside of the part.
            if is_whole and not is_event and place_of(record) not in refused:
                yield Finding("message_without_event", place_of(record))


def _leads(history: History) -> Mapping[tuple[str, str], Sequence[Lead]]:
    leads: defaultdict[tuple[str, str], list[Lead]] = defaultdict(list)
    codec = lead_codec(history.ids)
    for record in history.of(LEADS):
        lead = decoded(codec, record)
        if lead is not None:
            leads[lead.page_id, lead.psid].append(lead)
    return leads


def _messages(history: History) -> set[_Message]:
    codec = event_codec(history.ids)
    events = (decoded(codec, record) for record in history.of(EVENTS))
    return {
        (event.page_id, event.psid or "", event.mid)
        for event in events
        if isinstance(event, MessageReceived | SummaryReceived | EchoReceived)
    }


class Item(NamedTuple):
    """An item that names a person, with the Page as it is named there; `standby` is one of another app's thread."""

    page_id: PageId
    psid: Psid
    fields: Mapping[str, Any]
    standby: bool


def items_of(body: bytes) -> Iterator[Item]:
    for standby, item in _listed(body):
        with suppress(KeyError, TypeError, AttributeError):
            page, person = item["recipient"], item["sender"]
            if item.get("message", {}).get("is_echo"):
                page, person = person, page
            yield Item(PageId(str(page["id"])), Psid(str(person["id"])), item, standby)


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
