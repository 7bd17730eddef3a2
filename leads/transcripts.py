"""The transcript of a lead that closed without answers: what asks for it."""

from leads.pairing import transcript_ends_at
from leads.records import FetchTranscript, Lead


def transcript_request(lead: Lead) -> FetchTranscript:
    return FetchTranscript(
        lead_id=lead.lead_id,
        page_id=lead.page_id,
        psid=lead.psid,
        requested_at=lead.updated_at,
        lead_at=transcript_ends_at(lead),
    )
