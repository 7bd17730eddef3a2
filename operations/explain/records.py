"""The records that a timeline is made of, as they were read."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from leads.facts import JoinEvent
from leads.pages import Page
from leads.person import Person
from leads.records import FetchTranscript, FollowUpOutcome, Lead, SendFollowUp
from leads.rules import Caps, Rules
from messenger.errors import UnreadableDelivery
from messenger.events import PageId, Psid
from messenger.reasons import IgnoredReason
from messenger.webhook import ItemFault, parse_delivery
from operations.dead_letters.letters import Discard, Letter, Standing
from operations.explain.hand_off import HandedOn
from operations.explain.timeline import Place
from schemas.copies import copy_of, share_of
from streams.records import Record, received_at
from streams.split import EventCodec, is_fact, split


@dataclass(frozen=True, slots=True)
class Webhook:
    """A record of messenger-webhooks with its items, or those of one person: each an event, ignored, or at fault.

    `fault` is the reason for which nothing of it can be read. A `fact` of ours is its own only event.
    """

    place: Place
    at: datetime
    delivery_id: str
    copy: tuple[int, int]
    events: tuple[JoinEvent, ...] = field(default=(), repr=False)
    ignored: tuple[IgnoredReason, ...] = ()
    faults: tuple[ItemFault, ...] = ()
    fault: str | None = None
    fact: bool = False


def read_webhook(
    record: Record, aliases: Mapping[PageId, PageId], codec: EventCodec, only: Psid | None = None
) -> Webhook:
    """The webhook in a record, with the items of `only` this person."""
    place = Place(record.topic, record.partition, record.offset)
    at = received_at(record)
    delivery_id = next((value for name, value in record.headers if name == "delivery-id"), b"")
    webhook = (place, at, delivery_id.decode(errors="replace"), copy_of(record.headers))
    if is_fact(record):
        done = split([record], aliases, codec=codec)
        events = tuple(event for event in done.events if only in (None, event.psid))
        return Webhook(*webhook, events, fault=next((refusal.reason for refusal in done.refused), None), fact=True)
    if record.value is None:
        return Webhook(*webhook, fault="no_value")
    try:
        parsed = parse_delivery(
            record.value,
            received_at=at,
            topic=record.topic,
            partition=record.partition,
            offset=record.offset,
            aliases=aliases,
            share=share_of(record.headers),
            only=only,
        )
    except UnreadableDelivery as fault:
        return Webhook(*webhook, fault=str(fault))
    return Webhook(*webhook, parsed.events, parsed.ignored, parsed.faults)


class Kept(NamedTuple):
    """A dead letter, whether it may go back, and who closed it for good, if it is discarded."""

    letter: Letter
    standing: Standing
    discard: Discard | None = None


@dataclass(frozen=True, slots=True)
class Rows:
    """What the warehouse has of a person; `absent` says why nothing is known of it."""

    revisions: dict[Place, Lead] = field(default_factory=dict)
    current: dict[str, int] = field(default_factory=dict)
    outcomes: dict[Place, FollowUpOutcome] = field(default_factory=dict)
    absent: str | None = None


@dataclass(slots=True)
class Records:
    """The records about one person on one Page, each topic in its order.

    `events` has those about their Page too. `state` is the join's, None where it remembers nothing of them.
    """

    page_id: PageId
    psid: Psid
    webhooks: dict[Place, Webhook] = field(default_factory=dict)
    events: dict[Place, JoinEvent] = field(default_factory=dict)
    commands: dict[Place, SendFollowUp] = field(default_factory=dict)
    outcomes: dict[Place, FollowUpOutcome] = field(default_factory=dict)
    requests: dict[Place, FetchTranscript] = field(default_factory=dict)
    leads: dict[Place, Lead] = field(default_factory=dict)
    handed_on: dict[Place, HandedOn] = field(default_factory=dict)
    letters: list[Kept] = field(default_factory=list)
    state: Person | None = None
    erased_until: datetime | None = None
    rows: Rows = field(default_factory=Rows)


@dataclass(frozen=True, slots=True)
class Ground:
    """What records are judged by: the Page and the rules as they are configured now, and the time."""

    page: Page
    rules: Rules
    caps: Caps
    now: datetime
