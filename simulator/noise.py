"""Webhooks of people who are no leads: receipts, reactions, edits, opt-ins, standby, policy, Instant Forms."""

import random
from collections.abc import Callable
from datetime import datetime, timedelta

from messenger.events import person_key
from runtime.clock import to_millis
from simulator import payloads
from simulator.payloads import Conversation, Json
from simulator.people import CampaignPage, invented_mid, invented_psid
from simulator.story import Signal

_LAG = timedelta(milliseconds=400)
_Builder = Callable[[Conversation, str, datetime], Json]

# The builder of an entry about a person, and the result that a parser must give.
_OF_PEOPLE: tuple[tuple[_Builder, str], ...] = (
    (lambda who, mid, at: payloads.delivered(who, mid=mid, watermark=at, sent_at=at + _LAG), "DeliveryReceived"),
    (lambda who, _, at: payloads.read(who, watermark=at, at=at, sent_at=at + _LAG), "ReadReceived"),
    (lambda who, mid, at: payloads.reaction(who, mid=mid, at=at, sent_at=at + _LAG), "ReactionReceived"),
    (
        lambda who, mid, at: payloads.message(who, "Hello?", mid=mid, at=at, sent_at=at + _LAG, standby=True),
        "MessageReceived",
    ),
    (lambda who, mid, at: payloads.message_edit(who, "Hello!", mid=mid, at=at, sent_at=at + _LAG), "ignored"),
    (
        lambda who, mid, at: payloads.optin(
            who, token=mid, expires_at=at + timedelta(days=270), at=at, sent_at=at + _LAG
        ),
        "ignored",
    ),
)


def noise(rng: random.Random, page: CampaignPage, at: datetime) -> Signal:
    """A webhook that must not make, change or cancel anything."""
    kind = rng.randrange(len(_OF_PEOPLE) + 2)
    if kind == len(_OF_PEOPLE):
        entry = payloads.leadgen_changes(page.page_id, [rng.randrange(10**11, 10**12) for _ in range(2)], at=at)
        return Signal(sent_at=at + _LAG, entry=entry, verdicts=("ignored", "ignored"))
    if kind > len(_OF_PEOPLE):
        entry = payloads.policy_enforcement(
            page.page_id, page.entry_id, action="warning", reason="spam", at=at, sent_at=at + _LAG
        )
        return Signal(sent_at=at + _LAG, entry=entry, verdicts=("PolicyEnforced",))
    build, verdict = _OF_PEOPLE[kind]
    who = Conversation(page.page_id, invented_psid(rng), page.entry_id)
    entry = build(who, invented_mid(rng), at)
    return Signal(sent_at=at + _LAG, entry=entry, verdicts=(verdict,), person=person_key(who.page_id, who.psid))


def malformed(rng: random.Random, page: CampaignPage, at: datetime) -> Signal:
    """A read receipt, and beside it an item that claims to be a handover and is none."""
    who = Conversation(page.page_id, invented_psid(rng), page.entry_id)
    entry = payloads.read(who, watermark=at, at=at, sent_at=at + _LAG)
    broken: Json = {**who.from_person, "timestamp": to_millis(at), "pass_thread_control": "oops"}
    return Signal(
        sent_at=at + _LAG,
        entry=payloads.with_item(entry, broken),
        verdicts=("ReadReceived", "fault"),
        person=person_key(who.page_id, who.psid),
    )
