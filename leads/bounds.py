"""The bounds of a person's state: the encoded state fits into one record of the changelog, whatever comes.

What is shed is the content of a person's oldest leads. Their ids, revisions, stamps and signals stay, so that a late
or repeated signal finds its lead and opens no second one, and no rule acts twice.
"""

from datetime import datetime

import msgspec
from msgspec.structs import replace

from leads.followup import end_all
from leads.pairing import revise
from leads.person import Person
from leads.records import SHED, Lead, LeadId, LeadState, SendFollowUp
from leads.rules import Policy

# One event; an item of Meta's is smaller (`ITEM_MAX`), even where its ids repeat its texts.
EVENT_BYTES = 768 * 1024
# All leads of one person, but for the newest one.
LEADS_BYTES = 1024 * 1024
# As the changelog has them.
_encode = msgspec.msgpack.Encoder().encode


def is_shed(state: LeadState) -> bool:
    """Whether only the skeleton of the lead is left."""
    return state.lead.close_reason == SHED


def has_room(person: Person) -> bool:
    """Whether another lead of the person can be remembered until it is forgotten."""
    skeletons = [state for state in person.leads if is_shed(state)]
    return len(_encode(skeletons)) <= LEADS_BYTES // 2


def without_oldest(
    person: Person, kept: LeadId, policy: Policy, at: datetime
) -> tuple[Person, tuple[Lead | SendFollowUp, ...], int]:
    """The person within the bounds: what to publish of the leads that are shed, and how many these are.

    `kept` is not shed. An open lead closes with the reason `shed`; what is scheduled for it is cancelled.
    """
    outputs: tuple[Lead | SendFollowUp, ...] = ()
    count = 0
    # One lead alone is bounded by its events.
    if len(person.leads) == 1:
        return person, outputs, count
    weight = len(_encode(person.leads))
    for state in person.leads:
        if weight <= LEADS_BYTES:
            break
        if state.lead.lead_id == kept or is_shed(state):
            continue
        person, published = _shed(person, state, policy, at)
        skeleton = person.lead(state.lead.lead_id)
        assert skeleton is not None, "a skeleton is left"
        weight -= len(_encode(state)) - len(_encode(skeleton))
        outputs, count = outputs + published, count + 1
    return person, outputs, count


def _shed(
    person: Person, state: LeadState, policy: Policy, at: datetime
) -> tuple[Person, tuple[Lead | SendFollowUp, ...]]:
    closed = state if state.lead.closed else revise(state, person, policy.page, at=at, closing=SHED)
    revision = () if state.lead.closed else (closed.lead,)
    person, commands = end_all(person.with_lead(closed), closed, policy.rules, at)
    ended = person.lead(state.lead.lead_id) or closed
    lead = replace(
        ended.lead, answers=(), summary_text=None, ad=None, origins=(), answers_source="none", close_reason=SHED
    )
    skeleton = replace(ended, lead=lead, referral_answers=(), transcript_answers=())
    return person.with_lead(skeleton), (*revision, *commands)
