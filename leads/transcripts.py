"""The transcript of a lead that closed without answers: it is asked for once, and rules wait for it."""

from datetime import timedelta

from msgspec.structs import replace

from leads.pairing import transcript_ends_at
from leads.person import Awaited, Person
from leads.records import FetchTranscript, Lead, LeadId

# The sink answers a request in seconds, with or without answers. Where it is down, or Meta is, nobody waits longer.
TRANSCRIPT_WAIT = timedelta(minutes=5)


def transcript_request(lead: Lead) -> FetchTranscript:
    return FetchTranscript(
        lead_id=lead.lead_id,
        page_id=lead.page_id,
        psid=lead.psid,
        requested_at=lead.updated_at,
        lead_at=transcript_ends_at(lead),
    )


def with_awaited(person: Person, lead: Lead) -> Person:
    """The person whose lead's transcript is waited for, from this revision on."""
    return replace(person, awaited=(*person.awaited, Awaited(lead.lead_id, lead.updated_at + TRANSCRIPT_WAIT)))


def without_awaited(person: Person, lead_id: LeadId) -> Person:
    """The person whose lead's transcript is not waited for."""
    if not is_awaited(person, lead_id):
        return person
    return replace(person, awaited=tuple(awaited for awaited in person.awaited if awaited.lead_id != lead_id))


def is_awaited(person: Person, lead_id: LeadId) -> bool:
    return any(awaited.lead_id == lead_id for awaited in person.awaited)
