"""One messaging item → its platform event, the reason to ignore it, or its fault."""

from collections.abc import Callable, Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Any, TypedDict, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from messenger import events
from messenger.events import Ad, Answer, AppId, LeadOutcome, Origin, PageId, PlatformEvent, Psid
from messenger.lead_answers import read_answers
from messenger.limits import ID_MAX, LEAD_COMPLETE_METADATA, LEAD_INCOMPLETE_METADATA, LEADGEN_APP_ID, SUMMARY_PREFIX
from messenger.reasons import IGNORED_KEYS, IgnoredReason, ItemFaultReason
from messenger.values import as_id, as_millis, as_object, as_text, moment

_HOP_OUTCOMES: Mapping[str, LeadOutcome] = MappingProxyType(
    {LEAD_COMPLETE_METADATA: "complete", LEAD_INCOMPLETE_METADATA: "incomplete"}
)
_REFERRAL_OUTCOMES: Mapping[str, LeadOutcome] = MappingProxyType(
    {"LEAD_COMPLETE": "complete", "LEAD_INCOMPLETE": "incomplete"}
)


class Ignored(Exception):
    """The item is well-formed, and we do not act on it."""

    def __init__(self, *reasons: IgnoredReason) -> None:
        super().__init__(*reasons)
        self.reasons = reasons


class Malformed(Exception):
    """The item claims to be an event that we know, and is not; `place` names the key or list that is at fault."""

    def __init__(self, reason: ItemFaultReason, place: str) -> None:
        super().__init__(f"{reason}: {place}")
        self.reason: ItemFaultReason = reason
        self.place = place


class Item(Struct, frozen=True, kw_only=True):
    """A messaging item with the facts from its envelope.

    `sent_at` is the time of the entry. `hops` are the hop contexts of this item alone, `entry_hops` those that it
    shares with the other items of its entry.
    """

    fields: Mapping[str, Any]
    page_id: PageId | None
    psid: Psid | None
    sent_at: datetime | None
    received_at: datetime
    origin: Origin
    standby: bool
    hops: tuple[str, ...] = ()
    entry_hops: tuple[str, ...] = ()

    @property
    def millis(self) -> int | None:
        """Meta's stamp of the item; the other times differ between two deliveries of it."""
        return as_millis(self.fields.get("timestamp"))


def read_item(item: Item) -> PlatformEvent:
    """The event; raises `Ignored` or `Malformed`."""
    for key, read in _READERS.items():
        if key in item.fields:
            content = item.fields[key]
            if not isinstance(content, dict):
                raise Malformed("not_an_object", key)
            return read(item, content)
    ignored = [reason for key, reason in IGNORED_KEYS.items() if key in item.fields]
    raise Ignored(*(ignored or ["unknown_item"]))


def left_out(item: Item, event: PlatformEvent) -> list[IgnoredReason]:
    """The ignored parts of an item beside its event: other kinds of item, and answers that lack something."""
    kinds = _KINDS & item.fields.keys()
    reasons: list[IgnoredReason] = []
    if len(kinds) > 1:
        present = [kind for kind in kinds if item.fields[kind] is not None]
        reasons += ["second_kind"] * (len(present) - 1)
    if isinstance(event, events.LeadReferralReceived):
        rows = as_object(_lead(item)).get("data") or ()
        reasons += ["incomplete_answer"] * (len(rows) - len(event.answers))
    return reasons


class _Facts(TypedDict):
    page_id: PageId
    psid: Psid | None
    event_at: datetime
    received_at: datetime
    origin: Origin


def _page_facts(item: Item) -> _Facts:
    if item.page_id is None:
        raise Malformed("no_page", "recipient")
    return {
        "page_id": item.page_id,
        "psid": None,
        # Feedback and delivery items carry no stamp, https://developers.facebook.com/documentation/business-messaging/messenger-platform/webhooks/webhook-events/message-deliveries
        "event_at": item.sent_at or item.received_at if item.millis is None else moment(item.millis),
        "received_at": item.received_at,
        "origin": item.origin,
    }


def _facts(item: Item) -> _Facts:
    if item.psid is None:
        raise Ignored("no_person")
    return {**_page_facts(item), "psid": item.psid}


def _event_id(kind: str, *parts: object) -> str:
    return ":".join((kind, *("-" if part is None else str(part) for part in parts)))


def _mid(content: Mapping[str, Any], kind: str) -> str:
    mid = as_id(content.get("mid"))
    if mid is None:
        raise Malformed("no_mid", kind)
    return mid


def _app(content: Mapping[str, Any], name: str) -> AppId | None:
    app_id = as_id(content.get(name))
    if len(app_id or "") > ID_MAX:
        raise Malformed("id_too_long", name)
    return None if app_id is None else AppId(app_id)


def _message(item: Item, message: Mapping[str, Any]) -> PlatformEvent:
    facts, mid, text = _facts(item), _mid(message, "message"), as_text(message.get("text"))
    if is_echo(item.fields):
        return events.EchoReceived(
            **facts,
            event_id=_event_id("echo", mid),
            mid=mid,
            app_id=_app(message, "app_id"),
            metadata=as_text(message.get("metadata")),
            standby=item.standby,
        )
    if _is_of_lead(message):
        return _referral(item, as_object(message["referral"]))
    outcome = _summary_outcome(item, text)
    if text is not None and outcome is not None:
        return events.SummaryReceived(
            **facts,
            event_id=_event_id("summary", mid),
            mid=mid,
            text=text,
            outcome=outcome,
            standby=item.standby,
        )
    payload = as_text(as_object(message.get("quick_reply")).get("payload"))
    event_id, standby = _event_id("message", mid), item.standby
    return events.MessageReceived(**facts, event_id=event_id, mid=mid, text=text, payload=payload, standby=standby)


def is_echo(fields: Mapping[str, Any]) -> bool:
    """Whether the item is a message that the Page sent."""
    return as_object(fields.get("message")).get("is_echo") in (True, "true")


def _summary_outcome(item: Item, text: str | None) -> LeadOutcome | None:
    # Only the hop context proves a summary, because a person can type its first line. The text must look like a summary
    # as well, because ordinary messages may pass the same hop. The prefix may be translated, so lines are enough.
    # https://developers.facebook.com/documentation/business-messaging/messenger-platform/conversation-routing/messenger-lead-ads
    if text is None:
        return None
    if text.startswith(SUMMARY_PREFIX):
        hops = (*item.hops, *item.entry_hops)
    elif "\n" in text and (":" in text or "\N{FULLWIDTH COLON}" in text):
        hops = item.hops
    else:
        return None
    return next((_HOP_OUTCOMES[hop] for hop in hops if hop in _HOP_OUTCOMES), None)


def _is_of_lead(content: Mapping[str, Any]) -> bool:
    """Whether a message or postback carries a lead referral: in a new thread Meta puts referrals there."""
    # https://developers.facebook.com/documentation/business-messaging/messenger-platform/webhooks/webhook-events/messaging_referrals
    return as_object(content.get("referral")).get("type") in _REFERRAL_OUTCOMES


def _postback(item: Item, postback: Mapping[str, Any]) -> PlatformEvent:
    if _is_of_lead(postback):
        return _referral(item, as_object(postback["referral"]))
    mid, title, payload = as_id(postback.get("mid")), as_text(postback.get("title")), as_text(postback.get("payload"))
    key = (item.millis, title, payload) if mid is None else (mid,)
    return events.PostbackReceived(
        **_facts(item),
        event_id=_event_id("postback", *key),
        mid=mid,
        title=title,
        payload=payload,
        standby=item.standby,
    )


def _reaction(item: Item, reaction: Mapping[str, Any]) -> events.ReactionReceived:
    facts, mid, action = _facts(item), _mid(reaction, "reaction"), as_text(reaction.get("action"))
    if action is None:
        raise Malformed("no_action", "reaction")
    return events.ReactionReceived(
        **facts, event_id=_event_id("reaction", mid, action, item.millis), mid=mid, action=action, standby=item.standby
    )


def _referral(item: Item, referral: Mapping[str, Any]) -> events.LeadReferralReceived | events.ReferralReceived:
    facts, ad = _facts(item), _ad(referral)
    outcome = _REFERRAL_OUTCOMES.get(as_text(referral.get("type")) or "")
    if outcome is None:
        return events.ReferralReceived(**facts, event_id=_event_id("referral", item.millis, ad.ad_id, ad.ref), ad=ad)
    return events.LeadReferralReceived(
        **facts,
        event_id=_event_id("lead_referral", item.millis, ad.ad_id, outcome),
        outcome=outcome,
        answers=_answers(_lead(item)),
        ad=ad,
        standby=item.standby,
    )


def _ad(referral: Mapping[str, Any]) -> Ad:
    context = as_object(referral.get("ads_context_data"))
    return Ad(
        ad_id=as_id(referral.get("ad_id")),
        ad_title=as_text(context.get("ad_title")),
        post_id=as_id(context.get("post_id")),
        ref=as_text(referral.get("ref")),
    )


def _lead(item: Item) -> object:
    """The answers of a lead referral: beside it, wherever that is."""
    places = (item.fields, as_object(item.fields.get("message")), as_object(item.fields.get("postback")))
    return next((place["lead"] for place in places if "lead" in place), None)


def _answers(lead: object) -> tuple[Answer, ...]:
    # `lead` is beside `referral`: https://developers.facebook.com/documentation/business-messaging/messenger-platform/discovery/lead-generation-ads-in-messenger
    if not isinstance(lead, dict | None):
        raise Malformed("not_an_object", "lead")
    rows = as_object(lead).get("data")
    if not isinstance(rows, list | None):
        raise Malformed("not_a_list", "lead.data")
    try:
        return read_answers(rows or ())
    except RecursionError:
        raise Malformed("too_deep", "lead.data") from None


def _handover(item: Item, handover: Mapping[str, Any]) -> events.HandoverReceived:
    event = _owner_change(item, handover, "handover", events.HandoverReceived)
    if event.previous_owner_app_id != LEADGEN_APP_ID or event.metadata:
        return event
    # Meta's table of the fields of a handover calls `metadata` optional; `hop_context` repeats it.
    # https://developers.facebook.com/documentation/business-messaging/messenger-platform/webhooks/webhook-events/messaging_handovers
    said = {hop for hop in (*item.hops, *item.entry_hops) if hop in _HOP_OUTCOMES}
    return replace(event, metadata=said.pop()) if len(said) == 1 else event


def _taken(item: Item, taken: Mapping[str, Any]) -> events.ThreadControlTaken:
    return _owner_change(item, taken, "thread_control_taken", events.ThreadControlTaken)


_OwnerChange = TypeVar("_OwnerChange", events.HandoverReceived, events.ThreadControlTaken)


def _owner_change(item: Item, content: Mapping[str, Any], kind: str, event: type[_OwnerChange]) -> _OwnerChange:
    previous, new = _app(content, "previous_owner_app_id"), _app(content, "new_owner_app_id")
    metadata = as_text(content.get("metadata"))
    return event(
        **_facts(item),
        event_id=_event_id(kind, item.millis, previous, new, metadata),
        previous_owner_app_id=previous,
        new_owner_app_id=new,
        metadata=metadata,
    )


def _requested(item: Item, request: Mapping[str, Any]) -> events.ThreadControlRequested:
    requester, metadata = _app(request, "requested_owner_app_id"), as_text(request.get("metadata"))
    return events.ThreadControlRequested(
        **_facts(item),
        event_id=_event_id("thread_control_requested", item.millis, requester, metadata),
        requested_owner_app_id=requester,
        metadata=metadata,
    )


def _delivery(item: Item, delivery: Mapping[str, Any]) -> events.DeliveryReceived:
    facts, watermark = _facts(item), _watermark(delivery, "delivery")
    listed = delivery.get("mids")
    mids = tuple(mid for mid in map(as_id, listed) if mid is not None) if isinstance(listed, list) else ()
    return events.DeliveryReceived(
        **facts, event_id=_event_id("delivery", watermark, *mids), watermark=moment(watermark), mids=mids
    )


def _read(item: Item, read: Mapping[str, Any]) -> events.ReadReceived:
    facts, watermark = _facts(item), _watermark(read, "read")
    return events.ReadReceived(**facts, event_id=_event_id("read", watermark), watermark=moment(watermark))


def _watermark(content: Mapping[str, Any], kind: str) -> int:
    millis = as_millis(content.get("watermark"))
    if millis is None:
        raise Malformed("no_watermark", kind)
    return millis


def _policy(item: Item, policy: Mapping[str, Any]) -> events.PolicyEnforced:
    facts, action = _page_facts(item), as_text(policy.get("action"))
    if action is None:
        raise Malformed("no_action", "policy_enforcement")
    return events.PolicyEnforced(
        **facts,
        event_id=_event_id("policy", item.millis, action),
        action=action,
        reason=as_text(policy.get("reason")),
    )


_READERS: Mapping[str, Callable[[Item, Mapping[str, Any]], PlatformEvent]] = MappingProxyType(
    {
        "message": _message,
        "pass_thread_control": _handover,
        "take_thread_control": _taken,
        "request_thread_control": _requested,
        "referral": _referral,
        "postback": _postback,
        "reaction": _reaction,
        "delivery": _delivery,
        "read": _read,
        "policy_enforcement": _policy,
        # An older spelling of the same.
        "policy-enforcement": _policy,
    }
)
_KINDS = frozenset({*_READERS, *IGNORED_KEYS})
