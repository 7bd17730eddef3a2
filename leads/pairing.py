"""Find the lead that a signal belongs to, and make the lead's next revision."""

from collections.abc import Mapping
from datetime import datetime, timedelta

from msgspec.structs import replace

from leads.facts import LeadRecovered
from leads.pages import Page
from leads.person import Person, closes_at
from leads.records import AnswersSource, CloseReason, Lead, LeadState, WebhookOrigin, lead_id, remembered
from messenger.events import Answer, HandoverReceived, LeadOutcome, LeadReferralReceived, SummaryReceived
from messenger.limits import LEAD_COMPLETE_METADATA, LEAD_INCOMPLETE_METADATA, LEADGEN_APP_ID
from messenger.summary import parse_summary

Signal = HandoverReceived | LeadReferralReceived | SummaryReceived | LeadRecovered

# How long before the end of a dropped flow the person may have written last. Meta documents no drop timeout, and the
# messaging window runs from the person's last message, so an incomplete lead's window is taken this much shorter.
DROP_MARGIN = timedelta(hours=1)

# The stamps of one lead's signals lie this close: in Meta's samples they lag their sending by up to three minutes.
FLOW_SPREAD = timedelta(minutes=5)
# A stamp this far from its receipt says nothing about pairing: a late retry, or Meta's own samples, sent today.
STALE_STAMP = timedelta(days=1)


def is_lead_signal(handover: HandoverReceived) -> bool:
    """Whether a handover ends a lead flow: it comes from the Leadgen app, or says so in its metadata.

    https://developers.facebook.com/documentation/business-messaging/messenger-platform/conversation-routing/messenger-lead-ads
    """
    return handover.previous_owner_app_id == LEADGEN_APP_ID or handover.metadata in (
        LEAD_COMPLETE_METADATA,
        LEAD_INCOMPLETE_METADATA,
    )


def outcome_of(signal: Signal) -> LeadOutcome:
    """A flow that ends without saying how (a stop keyword) is an incomplete one."""
    if isinstance(signal, HandoverReceived):
        return "complete" if signal.metadata == LEAD_COMPLETE_METADATA else "incomplete"
    return signal.outcome


def pair(person: Person, signal: Signal) -> LeadState | None:
    """The lead that this signal is missing from, or None when it opens another.

    A signal belongs to a lead of its outcome whose stamps are near its own, even when that lead has closed. Where a
    stamp is stale, receipt decides: the signal belongs to a lead that still waits. Of several, the nearest in Meta's
    time, then the oldest.
    """
    fitting = [
        state
        for state in person.leads
        if state.lead.outcome == outcome_of(signal)
        and _stamp(state.lead, type(signal)) is None
        and _is_near(state.lead, signal)
    ]
    return min(fitting, key=lambda state: _distance(state.lead, signal.event_at), default=None)


def open_lead(person: Person, signal: Signal, page: Page) -> LeadState:
    """The lead that this signal opens, before the signal is added to it."""
    lead = Lead(
        lead_id=lead_id(person.page_id, person.psid, signal.event_id),
        revision=0,
        page_id=person.page_id,
        psid=person.psid,
        outcome=outcome_of(signal),
        first_seen_at=signal.received_at,
        updated_at=signal.received_at,
        messaging_window_closes_at=signal.received_at,
    )
    return LeadState(lead, (), closes_at=signal.received_at + page.join_wait)


def add_signal(state: LeadState, signal: Signal, person: Person, page: Page) -> LeadState:
    """The lead's next revision, with the content of the signal."""
    lead = state.lead
    match signal:
        case HandoverReceived():
            lead = replace(lead, handover_at=signal.event_at, target_app_id=signal.new_owner_app_id)
        case LeadReferralReceived():
            lead = replace(lead, referral_at=signal.event_at, ad=signal.ad)
            state = replace(state, referral_answers=signal.answers)
        case SummaryReceived():
            lead = replace(lead, summary_at=signal.event_at, summary_text=signal.text)
        case LeadRecovered():
            lead = replace(lead, transcript_at=signal.event_at)
            state = replace(state, transcript_answers=signal.answers)
    origin = WebhookOrigin(signal.origin.topic, signal.origin.partition, signal.origin.offset)
    origins = lead.origins if origin in lead.origins else (*lead.origins, origin)
    state = replace(state, lead=replace(lead, origins=origins), signals=(*state.signals, remembered(signal.event_id)))
    closing: CloseReason | None = "all_signals" if _is_whole(state.lead) else None
    if isinstance(signal, LeadRecovered) and lead.revision == 0:
        closing = "recovered"
    return revise(state, person, page, at=signal.received_at, closing=closing)


def revise(
    state: LeadState, person: Person, page: Page, *, at: datetime, closing: CloseReason | None = None
) -> LeadState:
    """The lead's next revision at a time of receipt, or at the deadline that closes it."""
    lead = state.lead
    answers, source = _answers(state, page)
    closes = closing is not None and not lead.closed
    return replace(
        state,
        lead=replace(
            lead,
            revision=lead.revision + 1,
            updated_at=at,
            answers=answers,
            answers_source=source,
            target_app_id=lead.target_app_id or page.target_app,
            last_user_message_at=person.last_user_message_at,
            messaging_window_closes_at=closes_at(_last_message_at(lead, person)),
            thread_control_expires_at=person.thread_control_expires_at,
            closed=lead.closed or closes,
            close_reason=closing if closes else lead.close_reason,
        ),
    )


def flow_ended_at(lead: Lead) -> datetime:
    """The end of the lead flow by Meta's stamps; never later than the time of receipt.

    The person did not write the summary, so its stamp counts only when there is no other.
    """
    stamps = [stamp for stamp in (lead.handover_at, lead.referral_at, lead.transcript_at) if stamp is not None]
    if not stamps and lead.summary_at is not None:
        stamps = [lead.summary_at]
    return min([*stamps, lead.first_seen_at])


def _last_message_at(lead: Lead, person: Person) -> datetime:
    ended_at = flow_ended_at(lead)
    # The last answer completes a flow, so a complete lead's end is the person's last message.
    is_known = lead.outcome == "complete" or lead.transcript_at is not None
    estimate = ended_at if is_known else ended_at - DROP_MARGIN
    return max(estimate, person.last_user_message_at or estimate)


def _stamp(lead: Lead, kind: type[Signal]) -> datetime | None:
    stamps: Mapping[type[Signal], datetime | None] = {
        HandoverReceived: lead.handover_at,
        LeadReferralReceived: lead.referral_at,
        SummaryReceived: lead.summary_at,
        LeadRecovered: lead.transcript_at,
    }
    return stamps[kind]


def _distance(lead: Lead, moment: datetime) -> timedelta:
    stamps = (lead.handover_at, lead.referral_at, lead.summary_at, lead.transcript_at)
    return min(abs(stamp - moment) for stamp in stamps if stamp is not None)


def _is_near(lead: Lead, signal: Signal) -> bool:
    if _distance(lead, signal.event_at) <= FLOW_SPREAD or _is_given_up_late(lead, signal):
        return True
    if isinstance(signal, LeadRecovered):
        # The conversation shows when things were said, however long ago.
        return False
    stale = max(abs(signal.received_at - signal.event_at), _distance(lead, lead.first_seen_at)) > STALE_STAMP
    return stale and not lead.closed


def _is_given_up_late(lead: Lead, signal: Signal) -> bool:
    """Whether a webhook may tell of the dropped flow that was recovered: the conversation shows the last answer, the
    webhook when Meta gave the flow up."""
    if lead.outcome == "complete" or lead.transcript_at is None or lead.handover_at or lead.referral_at:
        return False
    return timedelta(0) <= signal.event_at - lead.transcript_at <= DROP_MARGIN + FLOW_SPREAD


def _is_whole(lead: Lead) -> bool:
    # An incomplete flow has no summary.
    wanted = (lead.handover_at, lead.referral_at) + ((lead.summary_at,) if lead.outcome == "complete" else ())
    return None not in wanted


def _answers(state: LeadState, page: Page) -> tuple[tuple[Answer, ...], AnswersSource]:
    """The answers of the best source first, then those that only other sources have: a lead never loses an answer."""
    known = tuple(answer.question for answer in state.referral_answers)
    summary = parse_summary(state.lead.summary_text, (*known, *page.questions)) if state.lead.summary_text else ()
    sources: tuple[tuple[AnswersSource, tuple[Answer, ...]], ...] = (
        ("referral", state.referral_answers),
        ("summary", summary),
        ("transcript", state.transcript_answers),
    )
    source: AnswersSource = next((name for name, answers in sources if answers), "none")
    merged: tuple[Answer, ...] = ()
    for _, answers in sources:
        told = {answer.question for answer in merged}
        merged += tuple(answer for answer in answers if answer.question not in told)
    return merged, source
