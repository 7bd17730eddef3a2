"""Webhooks and their items as moments: what each said, and why it changed nothing."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from leads.facts import JoinEvent, LeadPromoted, LeadRecovered, PersonErased, TranscriptFetched
from leads.reasons import IgnoredEvent
from leads.records import LeadId
from messenger.events import (
    Answer,
    DeliveryReceived,
    EchoReceived,
    Event,
    HandoverReceived,
    LeadReferralReceived,
    MessageReceived,
    Origin,
    PolicyEnforced,
    PostbackReceived,
    ReactionReceived,
    ReadReceived,
    ReferralReceived,
    SummaryReceived,
    ThreadControlRequested,
    ThreadControlTaken,
)
from messenger.limits import (
    LEAD_COMPLETE_METADATA,
    LEAD_INCOMPLETE_METADATA,
    LEADGEN_APP_ID,
    PAGE_INBOX_APP_IDS,
)
from operations.explain.records import Webhook
from operations.explain.timeline import Kind, Moment, Place

# Of an event: its kind, a text without anything personal, and what is personal.
_Description = tuple[Kind, str, str | None]
# The webhook came again, or too late.
_REPEATED: frozenset[IgnoredEvent] = frozenset({"duplicate", "written_twice", "overtaken"})
_FLOW_ENDS = {
    LEAD_COMPLETE_METADATA: ": the lead flow is complete",
    LEAD_INCOMPLETE_METADATA: ": the lead flow is incomplete",
}


def of_webhook(webhook: Webhook, items: int) -> Iterator[Moment]:
    """The receipt, with its unreadable or ignored items; `items` of it became events."""
    number, count = webhook.copy
    copies = f", copy {number} of {count}" if count > 1 else ""
    ignored, faults = webhook.ignored, webhook.faults
    text = f"delivery {webhook.delivery_id} was received{copies}: {_counted(items + len(ignored) + len(faults))}"
    if webhook.fact:
        yield Moment(webhook.at, "fact", "a fact of ours was written among the webhooks", webhook.place)
    else:
        yield Moment(webhook.at, "webhook", text, webhook.place)
    for reason in ignored:
        yield Moment(webhook.at, "ignored", "an item that says nothing of leads", webhook.place, reason)
    for fault in faults:
        text = f"item {fault.item} is refused: {fault.place}"
        yield Moment(webhook.at, "dead_letter", text, webhook.place, fault.reason)
    if webhook.fault is not None:
        yield Moment(webhook.at, "dead_letter", "the delivery cannot be read", webhook.place, webhook.fault)


def _counted(items: int) -> str:
    return "1 item" if items == 1 else f"{items} items"


def of_event(
    event: JoinEvent, place: Place | None, reason: IgnoredEvent | None = None, lead_id: LeadId | None = None
) -> Moment:
    """An item of a webhook, or a fact of ours. `reason` says why the join had no use for it."""
    kind, text, personal = _described(event)
    if reason in _REPEATED:
        kind = "ignored"
    elif reason is not None and kind == "event":
        text = f"{text}; no lead changes"
    if getattr(event, "standby", False):
        text += ", while another app had the thread"
    command_id = event.metadata if isinstance(event, EchoReceived) else None
    return Moment(
        event.received_at, kind, text, place or of_origin(event.origin), reason, personal, lead_id, command_id
    )


def of_origin(origin: Origin) -> Place:
    return Place(origin.topic, origin.partition, origin.offset)


def _described(event: JoinEvent) -> _Description:
    return _DESCRIPTIONS[type(event)](event)


def _of_handover(event: HandoverReceived) -> _Description:
    route = f"{_app(event.previous_owner_app_id)} handed the thread to {_app(event.new_owner_app_id)}"
    return "event", route + _FLOW_ENDS.get(event.metadata or "", ""), event.metadata


def _of_referral(event: LeadReferralReceived) -> _Description:
    ad = f" of ad {event.ad.ad_id}" if event.ad.ad_id else ""
    text = f"lead referral{ad}: {event.outcome}, {len(event.answers)} answers"
    return "event", text, answers_text(event.answers)


def _of_arrival(event: ReferralReceived) -> _Description:
    return "event", f"the person came from {f'ad {event.ad.ad_id}' if event.ad.ad_id else 'a link'}", None


def _of_recovery(event: LeadRecovered) -> _Description:
    text = f"a backfill found the flow: {event.outcome}, {len(event.answers)} answers"
    return "fact", text, answers_text(event.answers)


def _of_transcript(event: TranscriptFetched) -> _Description:
    return "fact", f"the conversation shows {len(event.answers)} answers", answers_text(event.answers)


def _of_delivery(event: DeliveryReceived) -> _Description:
    return "delivery", f"messages up to {event.watermark:%Y-%m-%d %H:%M:%S} reached the person", None


def _of_read(event: ReadReceived) -> _Description:
    return "read", f"the person has read messages up to {event.watermark:%Y-%m-%d %H:%M:%S}", None


_DESCRIPTIONS: dict[type[Event], Callable[[Any], _Description]] = {
    HandoverReceived: _of_handover,
    ThreadControlTaken: lambda event: ("event", f"{_app(event.new_owner_app_id)} took the thread", event.metadata),
    ThreadControlRequested: lambda event: (
        "event",
        f"{_app(event.requested_owner_app_id)} asked for the thread",
        event.metadata,
    ),
    LeadReferralReceived: _of_referral,
    SummaryReceived: lambda event: ("event", f"summary message: {event.outcome}", event.text),
    ReferralReceived: _of_arrival,
    PolicyEnforced: lambda event: ("event", f"policy of Meta's for the Page: {event.action}", event.reason),
    MessageReceived: lambda event: ("reply", "the person wrote", event.text),
    PostbackReceived: lambda event: ("reply", "the person pressed a button", event.title),
    ReactionReceived: lambda _: ("reply", "the person reacted to a message", None),
    EchoReceived: lambda event: ("echo", f"{_app(event.app_id)} wrote message {event.mid}", None),
    DeliveryReceived: _of_delivery,
    ReadReceived: _of_read,
    TranscriptFetched: _of_transcript,
    LeadRecovered: _of_recovery,
    LeadPromoted: lambda event: ("fact", f"a replay's lead was promoted over revision {event.replaces}", None),
    PersonErased: lambda _: ("erased", "the person was erased: all that was received before is forgotten", None),
}


def _app(app_id: str | None) -> str:
    if app_id is None:
        return "an idle thread"
    if app_id == LEADGEN_APP_ID:
        return "Leadgen"
    return "the Page Inbox" if app_id in PAGE_INBOX_APP_IDS else f"app {app_id}"


def answers_text(answers: Sequence[Answer]) -> str | None:
    return "; ".join(f"{answer.question} {answer.answer}" for answer in answers) or None


def of_webhooks(
    webhooks: Mapping[Place, Webhook],
    events: Mapping[Place, JoinEvent],
    ignored: Mapping[Place, IgnoredEvent],
    lead_of: Mapping[Place, LeadId],
) -> Iterator[Moment]:
    """Each webhook with its items, in which `events` are their records in messenger-events by place."""
    written = {event.origin for event in events.values()}
    items = Counter(of_origin(origin) for origin in written)
    for webhook in webhooks.values():
        lost = [event for event in webhook.events if event.origin not in written]
        yield from of_webhook(webhook, items[webhook.place] + len(lost))
        yield from (of_event(event, None) for event in lost)
    for place, event in events.items():
        yield of_event(event, place, ignored.get(place), lead_of.get(place))
