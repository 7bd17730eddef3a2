"""Opt-out: whether a person may be written to, by the words they send and the flows they finish."""

from datetime import datetime, timedelta

from msgspec.structs import replace

from leads.pages import Page, as_word
from leads.pairing import flow_ended_at
from leads.person import Person, closes_at
from leads.records import NOTICE_RULE, OPTED_IN, OPTED_OUT, FollowUpMessage, Lead, LeadId, SendFollowUp, notice_id
from messenger.events import MessageReceived, PostbackReceived, ReactionReceived

# Meta may stamp the signals of a flow this long after its end, so that a flow whose end is stamped sooner after a stop
# word may have ended before it.
_STAMP_LAG = timedelta(minutes=3)


Said = MessageReceived | PostbackReceived | ReactionReceived


def with_words(person: Person, event: Said, page: Page) -> Person:
    """The person after what they said; a stop word that came late counts for nothing after a finished flow."""
    said_at = min(event.event_at, event.received_at)
    words = _words(event)
    if not page.stop_words.isdisjoint(words):
        person = replace(person, opted_out_at=max(said_at, person.opted_out_at or said_at))
        for state in person.leads:
            person = with_finished_flow(person, state.lead)
    elif not page.start_words.isdisjoint(words):
        person = replace(person, opted_in_at=max(said_at, person.opted_in_at or said_at))
    return person


def says_stop(event: Said, page: Page) -> bool:
    """Whether the person sent a stop word of the Page."""
    return not page.stop_words.isdisjoint(_words(event))


def _words(event: Said) -> frozenset[str]:
    """The person's words, in each form in which they may be a stop or a start word."""
    match event:
        case MessageReceived():
            said = (event.text, event.payload)
        case PostbackReceived():
            said = (event.title, event.payload)
        case _:
            return frozenset()
    return frozenset(as_word(text) for text in said if text is not None)


def with_finished_flow(person: Person, lead: Lead) -> Person:
    """The person, opted in again if they finished this lead's flow, and it began after they opted out."""
    is_assumed = lead.lead_id in person.assumed and not lead.closed
    if person.opted_out_at is None or is_assumed:
        return person
    finished_at = _finished_at(lead)
    if finished_at is None or finished_at - person.opted_out_at < _STAMP_LAG:
        return person
    return replace(person, opted_in_at=max(finished_at, person.opted_in_at or finished_at))


def is_undecided(person: Person, lead: Lead) -> bool:
    """Whether a person who opted out may have finished the lead's flow since: another signal, or the close, decides."""
    return person.is_opted_out and lead.outcome == "complete" and not _is_stamped(lead)


def _finished_at(lead: Lead) -> datetime | None:
    """When the person finished the flow; a summary alone, which may come late, says so once nothing else does."""
    return flow_ended_at(lead) if lead.outcome == "complete" and _is_stamped(lead) else None


def _is_stamped(lead: Lead) -> bool:
    stamps = (lead.handover_at, lead.referral_at, lead.transcript_at)
    return lead.closed or any(stamp is not None for stamp in stamps)


def notice(person: Person, cause: str, at: datetime) -> SendFollowUp:
    """The record that tells the send sink whether the person has opted out, after the event or lead `cause`."""
    return SendFollowUp(
        command_id=notice_id(person.page_id, person.psid, cause),
        lead_id=person.leads[-1].lead.lead_id if person.leads else LeadId(""),
        page_id=person.page_id,
        psid=person.psid,
        rule=NOTICE_RULE,
        step=0,
        created_at=at,
        not_before=at,
        not_after=closes_at(at),
        message=FollowUpMessage(""),
        cancel_reason=OPTED_OUT if person.is_opted_out else OPTED_IN,
    )
