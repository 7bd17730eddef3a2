"""The bounds of a person's state: the encoded state fits into one record of the changelog, whatever comes.

What is shed is the content of a person's oldest leads. Their ids, revisions, stamps and signals stay, so that a late
or repeated signal finds its lead and opens no second one, and no rule acts twice.
"""

from collections.abc import Iterable
from datetime import datetime

from msgspec.structs import replace

from leads.followup import end_all
from leads.pairing import revise
from leads.person import Person
from leads.records import SHED, Lead, LeadId, LeadState, SendFollowUp
from leads.rules import Policy
from messenger.events import Answer

# One event; an item of Meta's is smaller (`ITEM_MAX`), even where its ids repeat its texts.
EVENT_BYTES = 768 * 1024
# All leads of one person, but for the newest one.
LEADS_BYTES = 1024 * 1024
# Numbers, times, and the lengths of texts.
_FRAME = 300
_ORIGIN = 60


def is_shed(state: LeadState) -> bool:
    """Whether only the skeleton of the lead is left."""
    return state.lead.close_reason == SHED


def has_room(person: Person) -> bool:
    """Whether another lead of the person can be remembered until it is forgotten."""
    skeletons = [state for state in person.leads if is_shed(state)]
    return sum(map(_weight_of_lead, skeletons)) <= LEADS_BYTES // 2


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
    weight = sum(map(_weight_of_lead, person.leads))
    for state in person.leads:
        if weight <= LEADS_BYTES:
            break
        if state.lead.lead_id == kept or is_shed(state):
            continue
        person, published = _shed(person, state, policy, at)
        skeleton = person.lead(state.lead.lead_id)
        assert skeleton is not None, "a skeleton is left"
        weight -= _weight_of_lead(state) - _weight_of_lead(skeleton)
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


def _weight_of_lead(state: LeadState) -> int:
    """No less than its encoded size in bytes."""
    lead, ad = state.lead, state.lead.ad
    texts = [lead.lead_id, lead.page_id, lead.psid, lead.summary_text, lead.target_app_id, *state.signals]
    if ad is not None:
        texts += [ad.ad_id, ad.ad_title, ad.post_id, ad.ref]
    answers = (*lead.answers, *state.referral_answers, *state.transcript_answers)
    return (
        _FRAME
        + _ORIGIN * (len(lead.origins) + len(state.signals) + len(answers))
        + sum(len(origin.topic) for origin in lead.origins)
        + _size((*texts, *state.planned))
        + _size_of_answers(answers)
    )


def _size_of_answers(answers: Iterable[Answer]) -> int:
    return sum(_size((answer.question, answer.answer)) for answer in answers)


def _size(texts: Iterable[str | None]) -> int:
    return sum(5 + (len(text) if text.isascii() else 4 * len(text)) for text in texts if text)
