"""Deterministic ids: the same history gives the same ids."""

from hashlib import sha256
from uuid import UUID, uuid5

from leads.records import LeadId
from messenger.events import LeadOutcome, PageId, Psid

_ID_MAX = 512
# For ever: another namespace would give every lead of the past another id.
_NAMESPACE = UUID("6f0f7b0e-4a52-5f5e-9a5c-2f6f1f1d9c11")


def lead_id(page_id: PageId, psid: Psid, opening_event_id: str) -> LeadId:
    """The id of the lead that this signal opened."""
    return LeadId(str(uuid5(_NAMESPACE, f"lead:{page_id}:{psid}:{opening_event_id}")))


def remembered(event_id: str) -> str:
    """An event's id as state keeps it: itself, or a hash in the place of one that repeats a long text."""
    return event_id if len(event_id) <= _ID_MAX else f"sha256:{sha256(event_id.encode()).hexdigest()}"


def recovery_event_id(outcome: LeadOutcome, answer_mid: str) -> str:
    """The `event_id` of the fact that recovers a flow; a dropped flow that was finished later is another."""
    return f"recovered:{outcome}:{answer_mid}"


def command_id(lead: LeadId, rule: str, step: int) -> str:
    """The id of the one command that this step of a rule may give for a lead."""
    return str(uuid5(_NAMESPACE, f"command:{lead}:{rule}:{step}"))
