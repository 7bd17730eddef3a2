"""A delivery's bytes → its platform events, ignored reasons and faults; the envelope's quirks are handled here."""

import json
from collections.abc import Iterator, Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Any, NamedTuple

from msgspec import Struct

from messenger.errors import UnreadableDelivery
from messenger.events import Origin, PageId, PlatformEvent, Psid
from messenger.items import Ignored, Item, Malformed, is_echo, left_out, read_item
from messenger.limits import ID_MAX, ITEM_MAX
from messenger.reasons import IgnoredReason, ItemFaultReason
from messenger.values import NOTHING, as_id, as_millis, as_object, as_text, moment, read_body

# https://developers.facebook.com/documentation/business-messaging/messenger-platform/webhooks
# Meta documents one `messaging` item an entry; bodies have `messaging`, `standby` or `changes`, of any length.
_LISTS = ("messaging", "standby", "changes")
_NO_ALIASES: Mapping[PageId, PageId] = MappingProxyType({})


class ItemFault(Struct, frozen=True):
    """An item that claims to be an event that we know, and is not; `place` names the key or list that is at fault."""

    item: int
    reason: ItemFaultReason
    place: str


class Share(Struct, frozen=True):
    """The items of a delivery that one of its copies stands for: those of `pages`, or, as `is_rest`, all others.

    The ids are those in the body, before any alias. Items of no Page are in the rest.
    """

    pages: frozenset[PageId] = frozenset()
    is_rest: bool = True

    def has(self, page_id: PageId | None) -> bool:
        return (page_id in self.pages) != self.is_rest


WHOLE = Share()


class Parsed(Struct, frozen=True):
    """The items of a delivery, in the order of the body: each is an event, ignored or a fault."""

    events: tuple[PlatformEvent, ...] = ()
    ignored: tuple[IgnoredReason, ...] = ()
    faults: tuple[ItemFault, ...] = ()


def parse_delivery(
    body: bytes,
    *,
    received_at: datetime,
    topic: str,
    partition: int,
    offset: int,
    aliases: Mapping[PageId, PageId] = _NO_ALIASES,
    share: Share = WHOLE,
    only: Psid | None = None,
) -> Parsed:
    """Every item of a delivery as an event, an ignored reason or a fault; a bad item does not affect the others.

    With `share`, only the items that this copy of the delivery stands for; with `only`, those of this person.

    `aliases` maps other ids of a Page to its page id. `event_at` is Meta's stamp of the item, else that of its entry,
    else `received_at`. Origins count the items over the whole body, so that they differ between any two events.
    Raises `UnreadableDelivery` if the body as a whole is not a webhook.
    """
    envelope = _read(body)
    if envelope.get("object") != "page":
        return Parsed(ignored=("not_a_page",) if share.is_rest else ())
    events: list[PlatformEvent] = []
    ignored: list[IgnoredReason] = []
    faults: list[ItemFault] = []
    is_large = len(body) > ITEM_MAX
    for index, place in enumerate(_places(envelope)):
        if not (share is WHOLE and only is None) and not _is_meant(place, share, only):
            continue
        try:
            if is_large and place.list_name != "entry":
                _require_size(place)
            item = _item(place, received_at, Origin(topic, partition, offset, index), aliases)
            event = read_item(item)
            events.append(event)
            ignored += left_out(item, event)
        except Ignored as harmless:
            ignored += harmless.reasons
        except Malformed as fault:
            faults.append(ItemFault(index, fault.reason, fault.place))
    if not envelope["entry"]:
        ignored.append("empty_entry")
    return Parsed(tuple(events), tuple(ignored), tuple(faults))


def pages_of(body: bytes) -> tuple[PageId, ...]:
    """The Pages of a delivery's items, each once, in the order of the body; none for a body that is unreadable.

    Ids are the raw ones, before any alias; one that is too long to be an id names no Page.
    """
    try:
        envelope = _read(body)
    except UnreadableDelivery:
        return ()
    pages = (_address(place)[0] for place in _places(envelope))
    return tuple(dict.fromkeys(page for page in pages if page is not None and len(page) <= ID_MAX))


def _read(body: bytes) -> dict[str, Any]:
    try:
        envelope = read_body(body)
    except RecursionError:
        raise UnreadableDelivery("too_deep") from None
    except ValueError:  # also bytes that are not text, and numbers too long to parse
        raise UnreadableDelivery("not_json") from None
    if not isinstance(envelope, dict):
        raise UnreadableDelivery("not_an_object")
    if not isinstance(envelope.get("entry"), list):
        raise UnreadableDelivery("no_entries")
    return envelope


class _Place(NamedTuple):
    """A JSON value at the place of an item. `list_name` is "entry" when the entry itself is at fault."""

    entry: Mapping[str, Any]
    list_name: str
    value: Any
    alone: bool = True


def _places(envelope: Mapping[str, Any]) -> Iterator[_Place]:
    for entry in envelope["entry"]:
        if not isinstance(entry, dict):
            yield _Place(NOTHING, "entry", entry)
            continue
        rows = [(name, value) for name in _LISTS for value in _rows(entry.get(name))]
        for name, value in rows or [("entry", NOTHING)]:
            yield _Place(entry, name, _unwrapped(value) if name == "changes" else value, len(rows) == 1)


def _rows(value: object) -> list[Any]:
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def _unwrapped(change: object) -> object:
    # The dashboard's test button wraps a messaging item as {field, value}; a real change names no recipient.
    value = as_object(as_object(change).get("value"))
    return value if "recipient" in value else change


def _item(place: _Place, received_at: datetime, origin: Origin, aliases: Mapping[PageId, PageId]) -> Item:
    entry, fields = place.entry, place.value
    if not isinstance(fields, Mapping):
        raise Malformed("not_an_object", place.list_name)
    if place.list_name == "entry":
        raise Ignored("empty_entry")
    if "field" in fields and place.list_name == "changes":
        raise Ignored("instant_form_lead" if fields["field"] == "leadgen" else "other_change")
    page_id, psid = _address(place)
    if max(len(page_id or ""), len(psid or "")) > ID_MAX:
        raise Malformed("id_too_long", "sender or recipient")
    if ":" in (page_id or ""):
        raise Malformed("colon_in_page_id", "sender or recipient")
    sent_millis = as_millis(entry.get("time"))
    entry_hops = _hops(entry)
    return Item(
        fields=fields,
        page_id=None if page_id is None else aliases.get(page_id, page_id),
        psid=psid,
        sent_at=None if sent_millis is None else moment(sent_millis),
        received_at=received_at,
        origin=origin,
        standby=place.list_name == "standby",
        # https://developers.facebook.com/documentation/business-messaging/messenger-platform/conversation-routing/messenger-lead-ads
        # A list on the entry in the handover sample, an object on the item in the summary sample.
        hops=(*_hops(fields), *(entry_hops if place.alone else ())),
        entry_hops=entry_hops,
    )


def _require_size(place: _Place) -> None:
    try:
        size = len(json.dumps(place.value))
    except RecursionError:
        raise Malformed("too_deep", place.list_name) from None
    if size > ITEM_MAX:
        raise Malformed("too_large", place.list_name)


def _address(place: _Place) -> tuple[PageId | None, Psid | None]:
    """The Page and the person, by the ids in the body."""
    fields = as_object(place.value)
    sender, recipient = (as_id(as_object(fields.get(end)).get("id")) for end in ("sender", "recipient"))
    # An echo goes the other way: https://developers.facebook.com/documentation/business-messaging/messenger-platform/webhooks/webhook-events/message-echoes
    page, person = (sender, recipient) if is_echo(fields) else (recipient, sender)
    # In both samples of the lead-ads page `entry.id` is not the recipient, so it only replaces a missing recipient.
    page = page or as_id(place.entry.get("id"))
    return (None if page is None else PageId(page), None if person is None else Psid(person))


def _is_meant(place: _Place, share: Share, only: Psid | None) -> bool:
    page_id, psid = _address(place)
    return share.has(page_id) and only in (None, psid)


def _hops(holder: Mapping[str, Any]) -> tuple[str, ...]:
    texts = (as_text(as_object(hop).get("metadata")) for hop in _rows(holder.get("hop_context")))
    return tuple(text for text in texts if text is not None)
