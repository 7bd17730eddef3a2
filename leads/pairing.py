"""Find the lead that a signal belongs to, and make the lead's next revision."""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from types import MappingProxyType

from msgspec.structs import replace

from leads.answers import answers_of
from leads.facts import LeadRecovered
from leads.pages import Page
from leads.person import Person, closes_at
from leads.records import CloseReason, Lead, LeadState, WebhookOrigin, lead_id, remembered
from messenger.events import HandoverReceived, LeadOutcome, LeadReferralReceived, SummaryReceived
from messenger.limits import LEAD_COMPLETE_METADATA, LEAD_INCOMPLETE_METADATA, LEADGEN_APP_ID, MESSAGING_WINDOW
from messenger.wording import normal_text

Signal = HandoverReceived | LeadReferralReceived | SummaryReceived | LeadRecovered

# How long before the end of a dropped flow the person may have written last. Meta documents no drop timeout, and the
# messaging window runs from the person's last message, so an incomplete lead's window is taken this much shorter.
DROP_MARGIN = timedelta(hours=1)

# Signals of one flow that disagree about its outcome are stamped this close: in Meta's samples a stamp lags its sending
# by up to three minutes, and a dropped flow takes longer to be resumed and finished.
FLOW_SPREAD = timedelta(minutes=5)
# How far the stamps of one flow may lie apart once its lead has closed. The signals of a finished flow are of its end;
# of a dropped one, a referral can be of the last answer, and the handover of the time at which Meta gave it up.
REACH: Mapping[LeadOutcome, timedelta] = MappingProxyType(
    {"complete": timedelta(hours=1), "incomplete": MESSAGING_WINDOW}
)
# Nobody finishes two flows in a minute.
SHORTEST_FLOW = timedelta(minutes=1)
# Meta's clock and the broker's lie closer than this.
CLOCK_SKEW = timedelta(minutes=1)
_SECOND = timedelta(seconds=1)


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


def is_assumed(signal: Signal) -> bool:
    """Whether the signal does not say how its flow ended."""
    return isinstance(signal, HandoverReceived) and signal.metadata not in (
        LEAD_COMPLETE_METADATA,
        LEAD_INCOMPLETE_METADATA,
    )


def with_assumption(person: Person, lead: Lead, event: Signal) -> Person:
    """The person after a signal of a lead, as it was before, whose outcome may still be assumed."""
    if is_assumed(event):
        return replace(person, assumed=(*person.assumed, lead.lead_id)) if lead.revision == 0 else person
    assumed = tuple(lead_id for lead_id in person.assumed if lead_id != lead.lead_id)
    return person if len(assumed) == len(person.assumed) else replace(person, assumed=assumed)


def is_known(person: Person, signal: Signal) -> bool:
    """Whether a lead has this signal, or the same with another stamp or id and no flow that began in between."""
    names = {signal.event_id, remembered(signal.event_id)}
    return any(
        not names.isdisjoint(state.signals) or (_repeats(state, signal) and not _is_parted(person, state.lead, signal))
        for state in person.leads
    )


def is_summary(person: Person, summary: SummaryReceived, page: Page) -> bool:
    """Whether a text in another language than Meta's sample is the summary of a flow, and not the person's message.

    It has a question of the Page's forms, where they are known. Else it lies near a lead that lacks a summary, or the
    person has no lead of their present flow.
    """
    if page.questions and not _asks_any(page.questions, summary.text):
        return False
    state = pair(person, summary)
    if state is None:
        return all(_is_parted(person, state.lead, summary) for state in person.leads)
    is_sure = bool(page.questions or state.referral_answers)
    return is_sure or _distance(state.lead, summary.event_at) <= FLOW_SPREAD


def pair(person: Person, signal: Signal) -> LeadState | None:
    """The lead that this signal is missing from, or None when it opens another.

    A signal belongs to a lead that lacks one of its kind, unless something says that it is of another flow: a flow that
    began in between, the questions of another form, or another outcome at another time. Of several leads, one of its
    outcome, then the nearest in Meta's time, then the oldest.
    """
    fitting = [
        state
        for state in person.leads
        if _lacks(person, state.lead, signal)
        and _is_in_reach(person, state.lead, signal)
        and not _is_parted(person, state.lead, signal)
        and not _is_of_another_form(state, signal)
    ]
    outcome = outcome_of(signal)
    return min(
        fitting,
        key=lambda state: (state.lead.outcome != outcome, _distance(state.lead, signal.event_at)),
        default=None,
    )


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
    lead = replace(state.lead, outcome=_outcome_with(person, state.lead, signal))
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
    closing: CloseReason | None = "all_signals" if _is_whole(state.lead, signal, page) else None
    if isinstance(signal, LeadRecovered) and lead.revision == 0:
        closing = "recovered"
    return revise(state, person, page, at=signal.received_at, closing=closing)


def revise(
    state: LeadState, person: Person, page: Page, *, at: datetime, closing: CloseReason | None = None
) -> LeadState:
    """The lead's next revision at a time of receipt, or at the deadline that closes it."""
    lead = state.lead
    answers, source = answers_of(state, page)
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
            last_user_message_at=_known_last_message_at(lead, person),
            messaging_window_closes_at=closes_at(_last_message_at(lead, person)),
            thread_control_expires_at=person.thread_control_expires_at,
            closed=lead.closed or closes,
            close_reason=closing if closes else lead.close_reason,
        ),
    )


def flow_ended_at(lead: Lead) -> datetime:
    """The first instant after the lead flow, as Meta stamps it: an event then or later happened after it.

    Meta stamps handovers in milliseconds, and lead referrals and summaries in seconds.
    """
    stamps = [stamp if stamp == lead.handover_at else _end_of(stamp) for stamp in _stamps_of_end(lead)]
    return min([*stamps, _end_of(lead.first_seen_at)])


def transcript_ends_at(lead: Lead) -> datetime:
    """The end of the lead flow by Meta's clock, which stamps the conversation too, where that seems right."""
    stamp = min(_stamps_of_end(lead), default=lead.first_seen_at)
    return stamp if stamp <= lead.first_seen_at + CLOCK_SKEW else lead.first_seen_at


def _ended_at(lead: Lead) -> datetime:
    return min([*_stamps_of_end(lead), lead.first_seen_at])


def _stamps_of_end(lead: Lead) -> list[datetime]:
    """The person did not write the summary, so its stamp counts only when there is no other."""
    stamps = [stamp for stamp in (lead.handover_at, lead.referral_at, lead.transcript_at) if stamp is not None]
    return stamps or [stamp for stamp in (lead.summary_at,) if stamp is not None]


def _outcome_with(person: Person, lead: Lead, signal: Signal) -> LeadOutcome:
    """The outcome that is said counts before one that is assumed; of two that are said, incomplete."""
    if lead.lead_id in person.assumed:
        return outcome_of(signal)
    return lead.outcome if is_assumed(signal) or lead.outcome == outcome_of(signal) else "incomplete"


def _last_message_at(lead: Lead, person: Person) -> datetime:
    ended_at = _ended_at(lead)
    estimate = ended_at if _ends_with_answer(lead) else ended_at - DROP_MARGIN
    return max(estimate, person.last_user_message_at or estimate)


def _known_last_message_at(lead: Lead, person: Person) -> datetime | None:
    """When the person last wrote; None for a dropped flow in which they may have written later than we know."""
    last = _last_message_at(lead, person)
    return last if last == person.last_user_message_at or _ends_with_answer(lead) else None


def seen_last_message_at(lead: Lead) -> datetime | None:
    """When the person was last seen to write; None where the lead says only that they had to, to finish its flow."""
    last = lead.last_user_message_at
    return None if _ends_with_answer(lead) and last == _ended_at(lead) else last


def _ends_with_answer(lead: Lead) -> bool:
    # The last answer completes a flow, so a complete lead's end is the person's last message.
    return lead.outcome == "complete" or lead.transcript_at is not None


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


def _lacks(person: Person, lead: Lead, signal: Signal) -> bool:
    if isinstance(signal, HandoverReceived) and lead.lead_id in person.assumed and lead.handover_at is not None:
        # A copy that says how the flow ended.
        return not is_assumed(signal) and abs(lead.handover_at - signal.event_at) <= SHORTEST_FLOW
    return _stamp(lead, type(signal)) is None


def _is_in_reach(person: Person, lead: Lead, signal: Signal) -> bool:
    agrees = lead.outcome == outcome_of(signal)
    distance = _distance(lead, signal.event_at)
    if isinstance(signal, LeadRecovered):
        # The conversation shows when things were said, however long ago.
        return agrees and distance <= FLOW_SPREAD
    if not agrees and (lead.closed or not (is_assumed(signal) or lead.lead_id in person.assumed)):
        return distance <= FLOW_SPREAD
    return not lead.closed or distance < REACH[lead.outcome]


def _is_parted(person: Person, lead: Lead, signal: Signal) -> bool:
    """Whether another flow began or ended between the lead and the signal: Leadgen took the thread, or handed over."""
    handovers = (state.lead.handover_at for state in person.leads if state.lead.lead_id != lead.lead_id)
    first, last = sorted((_earliest(lead), signal.event_at))
    return any(_end_of(first) < moment <= _end_of(last) for moment in (person.flow_began_at, *handovers) if moment)


def _is_of_another_form(state: LeadState, signal: Signal) -> bool:
    """Whether a referral and a summary have no question in common."""
    match signal:
        case LeadReferralReceived():
            answers, text = signal.answers, state.lead.summary_text
        case SummaryReceived():
            answers, text = state.referral_answers, signal.text
        case _:
            return False
    if not answers or text is None:
        return False
    return not _asks_any((answer.question for answer in answers), text)


def _asks_any(questions: Iterable[str], text: str) -> bool:
    summary = normal_text(text)
    return any(normal_text(question) in summary for question in questions)


def _repeats(state: LeadState, signal: Signal) -> bool:
    lead = state.lead
    match signal:
        case HandoverReceived():
            if lead.handover_at is None or abs(lead.handover_at - signal.event_at) > SHORTEST_FLOW:
                return False
            return is_assumed(signal) or _has_all_but_stamp(state, signal)
        case LeadReferralReceived():
            if not _has_all_but_stamp(state, signal) or state.referral_answers != signal.answers:
                return False
        case SummaryReceived():
            if lead.summary_text != signal.text:
                return False
        case LeadRecovered():
            return False
    return not lead.closed or _distance(lead, signal.event_at) < REACH[lead.outcome]


def _has_all_but_stamp(state: LeadState, signal: Signal) -> bool:
    """Whether the lead has a signal of this id but for the stamp in it, which follows the kind."""
    return _without_stamp(signal.event_id) in map(_without_stamp, state.signals)


def _without_stamp(event_id: str) -> tuple[str, str]:
    kind, _, rest = event_id.partition(":")
    return kind, rest.partition(":")[2]


def _earliest(lead: Lead) -> datetime:
    stamps = (lead.handover_at, lead.referral_at, lead.summary_at, lead.transcript_at)
    return min(stamp for stamp in stamps if stamp is not None)


def _end_of(stamp: datetime) -> datetime:
    """The end of what a stamp covers: Meta's stamps in whole seconds cover their second."""
    return stamp if stamp.microsecond else stamp + _SECOND


def _is_whole(lead: Lead, signal: Signal, page: Page) -> bool:
    """Whether the lead, before the revision that `signal` makes, waits for no other."""
    came = {"handover": lead.handover_at, "referral": lead.referral_at, "summary": lead.summary_at}
    is_outcome_said = lead.revision > 0 or not is_assumed(signal)
    # An incomplete flow has no summary.
    expected = page.signals - {"summary"} if lead.outcome == "incomplete" and is_outcome_said else page.signals
    return all(came[kind] for kind in expected)
