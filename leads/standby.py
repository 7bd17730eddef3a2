"""Lead signals on standby, which come while another app has the thread: they count for flows that are handed to us."""

from collections.abc import Iterator
from datetime import datetime, timedelta

from msgspec.structs import replace

from leads.pairing import FLOW_SPREAD, REACH, flow_ended_at, pair
from leads.person import Person, happened_at
from messenger.events import HandoverReceived, LeadReferralReceived, SummaryReceived

# Meta stamps these in whole seconds.
_SECOND = timedelta(seconds=1)

StandbySignal = LeadReferralReceived | SummaryReceived


def fits_our_lead(person: Person, signal: StandbySignal) -> bool:
    """Whether the person has a lead that the signal fits, and no other app got a flow of theirs since."""
    state, away = pair(person, signal), person.handed_away_at
    if state is None:
        return False
    return away is None or not flow_ended_at(state.lead) < away < signal.event_at + _SECOND


def with_kept(person: Person, signal: StandbySignal) -> Person:
    """The person with this signal kept, the newest of its kind, unless another app got its flow."""
    away = person.handed_away_at
    if away is not None and abs(signal.event_at - away) <= FLOW_SPREAD:
        return person
    others = tuple(kept for kept in person.kept if type(kept) is not type(signal))
    return replace(person, kept=(*others, signal))


def handed_away(person: Person, handover: HandoverReceived) -> Person:
    """The person after another app got a flow: the kept signals may be of that flow."""
    at = happened_at(handover)
    return replace(person, kept=(), handed_away_at=max(at, person.handed_away_at or at))


def kept_of(person: Person, handover: HandoverReceived) -> Iterator[StandbySignal]:
    """The kept signals near enough to the end of the flow that was handed to us, as if they came with the handover."""
    for kept in person.kept:
        if abs(kept.event_at - handover.event_at) < REACH[kept.outcome]:
            yield replace(kept, received_at=handover.received_at)


def without_the_old(person: Person, until: datetime) -> Person:
    """The person without kept signals that fit no flow that ends now."""
    if not person.kept:
        return person
    return replace(
        person, kept=tuple(signal for signal in person.kept if signal.received_at + REACH[signal.outcome] > until)
    )
