"""The join: `advance(person, event)` folds one event into a person's state, `elapse` lets time pass.

Events come in the order of receipt. A deadline up to the time of receipt fires before the event, and what it gives
carries the deadline; so the same log gives the same revisions however fast it is read.
"""

from collections.abc import Callable
from datetime import datetime
from typing import Any, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from leads import followup, standby
from leads.answers import merged
from leads.bounds import has_room, is_shed, without_oldest
from leads.facts import JoinEvent, LeadPromoted, LeadRecovered, PersonErased, TranscriptFetched
from leads.our_app import is_our_app, is_ours
from leads.pairing import (
    Signal,
    add_signal,
    is_known,
    is_lead_signal,
    is_summary,
    open_lead,
    pair,
    revise,
    seen_last_message_at,
    with_assumption,
)
from leads.person import Person, Scheduled, control_expires_at, happened_at, is_overtaken
from leads.reasons import IgnoredEvent
from leads.records import Cancellation, FetchTranscript, Lead, LeadId, LeadState, SendFollowUp
from leads.rules import Policy
from leads.transcripts import transcript_request, with_awaited, without_awaited
from messenger.events import (
    AppId,
    EchoReceived,
    Event,
    HandoverReceived,
    LeadReferralReceived,
    MessageReceived,
    PostbackReceived,
    ReactionReceived,
    SummaryReceived,
    ThreadControlRequested,
    ThreadControlTaken,
)
from messenger.limits import LEADGEN_APP_ID, SUMMARY_PREFIX, THREAD_CONTROL_DEFAULT

Output = Lead | SendFollowUp | FetchTranscript
_Text = TypeVar("_Text", SummaryReceived, MessageReceived)


class Step(Struct, frozen=True):
    """The result of one event: the new state, the outputs in their order, and the reason if it was ignored.

    `shed` counts the leads whose content the state no longer holds.
    """

    person: Person
    outputs: tuple[Output, ...] = ()
    ignored: IgnoredEvent | None = None
    shed: int = 0


def advance(person: Person, event: JoinEvent, policy: Policy) -> Step:
    """Fold one event in; it must not have been received before any that was folded in already."""
    elapsed = elapse(person, event.received_at, policy)
    step = _apply(replace(elapsed.person, touched_at=event.received_at), event, policy)
    return Step(step.person, elapsed.outputs + step.outputs, step.ignored, elapsed.shed + step.shed)


def elapse(person: Person, until: datetime, policy: Policy) -> Step:
    """Fire every deadline up to `until`, in the order of the deadlines, and forget what is too old to matter."""
    outputs: tuple[Output, ...] = ()
    shed = 0
    while (moment := min(person.deadlines, default=None)) is not None and moment <= until:
        step = _fire(person.without_the_old(moment), moment, policy)
        person, outputs, shed = step.person, outputs + step.outputs, shed + step.shed
    return Step(standby.without_the_old(person.without_the_old(until), until), outputs, shed=shed)


def block(person: Person, at: datetime, policy: Policy) -> Step:
    """Meta blocked the person's Page: what is planned and what waits to be sent is cancelled, for good."""
    elapsed = elapse(person, at, policy)
    person, commands = followup.block(elapsed.person, policy.rules, at)
    return Step(person, elapsed.outputs + commands)


def _fire(person: Person, moment: datetime, policy: Policy) -> Step:
    closing = next((state for state in person.leads if not state.lead.closed and state.closes_at == moment), None)
    if closing is not None:
        return _publish(person, revise(closing, person, policy.page, at=moment, closing="join_wait"), policy)
    awaited = next((awaited for awaited in person.awaited if awaited.until == moment), None)
    if awaited is not None:
        return Step(*followup.end_wait(person, awaited.lead_id, policy, moment))
    scheduled: Scheduled = min(
        (waiting for waiting in person.scheduled if waiting.due_at == moment),
        key=lambda waiting: (waiting.lead_id, waiting.rule),
    )
    person, commands = followup.due(person, scheduled, policy)
    return Step(person, commands)


def _apply(person: Person, event: JoinEvent, policy: Policy) -> Step:
    handle = _HANDLERS.get(type(event))
    return handle(person, event, policy) if handle else Step(person, ignored="says_nothing_of_leads")


def _on_handover(person: Person, event: HandoverReceived, policy: Policy) -> Step:
    gets_it = is_ours(person, event.new_owner_app_id, policy.page)
    if not (policy.page.is_target(event.new_owner_app_id) if is_lead_signal(event) else gets_it):
        person = standby.handed_away(person, event) if is_lead_signal(event) else person
        lost = _on_control_lost(person, event, event.new_owner_app_id, policy)
        return replace(lost, ignored="not_ours")
    lasts = policy.page.thread_control if is_lead_signal(event) else THREAD_CONTROL_DEFAULT
    owned = _with_owner(person, event, event.new_owner_app_id, control_expires_at(happened_at(event), lasts))
    if not is_lead_signal(event):
        return Step(*followup.resume(owned, policy, event.received_at), ignored="not_a_lead_flow")
    step = _on_signal(owned, event, policy)
    # A late duplicate says nothing new about who has the thread.
    return _with_kept(step, event, policy) if step.ignored is None else Step(person, ignored=step.ignored)


def _with_kept(step: Step, handover: HandoverReceived, policy: Policy) -> Step:
    """The step with the signals of the same flow that came before it on standby."""
    person = replace(step.person, kept=())
    for signal in standby.kept_of(step.person, handover):
        if standby.fits_our_lead(person, signal):
            more = _on_signal(person, signal, policy)
            person = more.person
            step = replace(step, outputs=step.outputs + more.outputs, shed=step.shed + more.shed)
    return replace(step, person=person)


def _on_thread_control_taken(person: Person, event: ThreadControlTaken, policy: Policy) -> Step:
    if is_ours(person, event.new_owner_app_id, policy.page):
        expires_at = control_expires_at(happened_at(event), THREAD_CONTROL_DEFAULT)
        owned = _with_owner(person, event, event.new_owner_app_id, expires_at)
        return Step(*followup.resume(owned, policy, event.received_at))
    return _on_control_lost(person, event, event.new_owner_app_id, policy)


def _on_thread_control_requested(
    person: Person,
    event: ThreadControlRequested,
    policy: Policy,  # noqa: ARG001 - one shape for all handlers
) -> Step:
    # Any routing action resets thread control to one day; see limits.py for the page.
    reset = control_expires_at(happened_at(event), THREAD_CONTROL_DEFAULT)
    current = person.thread_control_expires_at
    return Step(replace(person, thread_control_expires_at=min(current, reset) if current else None))


def _on_control_lost(person: Person, event: Event, owner: AppId | None, policy: Policy) -> Step:
    overtaken = is_overtaken(person, event)
    person = _with_owner(person, event, owner, None)
    if owner == LEADGEN_APP_ID:
        # Another flow begins; Leadgen hands the thread over when it ends.
        began_at = happened_at(event)
        return Step(replace(person, flow_began_at=max(began_at, person.flow_began_at or began_at)))
    if overtaken:
        return Step(person, ignored="overtaken")
    return Step(*_cancel(person, "control_lost", event, policy))


def _on_signal(person: Person, event: Signal, policy: Policy) -> Step:
    if is_known(person, event):
        return Step(person, ignored="duplicate")
    state = pair(person, event)
    if state is None and not has_room(person):
        return Step(person, ignored="too_many_leads")
    if state is not None and is_shed(state):
        return Step(person, ignored="lead_shed")
    before = state or open_lead(person, event, policy.page)
    after = add_signal(before, event, person, policy.page)
    if before.lead.outcome == "complete" and after.lead.outcome == "incomplete":
        after = followup.without_second_chance(person, after, policy.rules)
    return _publish(with_assumption(person, before.lead, event), after, policy)


def _on_referral_or_summary(person: Person, event: standby.StandbySignal, policy: Policy) -> Step:
    """On standby a signal opens no lead: its flow was handed to us, will be, or is another app's."""
    if event.standby and not is_known(person, event) and not standby.fits_our_lead(person, event):
        return Step(standby.with_kept(person, event), ignored="standby_lead_signal")
    return _on_signal(person, event, policy)


def _on_summary(person: Person, event: SummaryReceived, policy: Policy) -> Step:
    """A text without Meta's first line may be one of the person's, though it passed Leadgen's hop."""
    if event.text.startswith(SUMMARY_PREFIX) or is_summary(person, event, policy.page):
        return _on_referral_or_summary(person, event, policy)
    message = _as_kind(MessageReceived, event, event_id=f"message:{event.mid}", text=event.text)
    return _on_person_acted(person, message, policy)


def _on_message(person: Person, event: MessageReceived, policy: Policy) -> Step:
    """A text with Meta's first line may be the summary, though nothing says that it passed Leadgen's hop."""
    if not (event.text or "").startswith(SUMMARY_PREFIX):
        return _on_person_acted(person, event, policy)
    event_id, text = f"summary:{event.mid}", event.text or ""
    summary = _as_kind(SummaryReceived, event, event_id=event_id, text=text, outcome="complete")
    if is_known(person, summary) or pair(person, summary) is not None:
        return _on_referral_or_summary(person, summary, policy)
    if any(state.lead.summary_at for state in person.leads):
        return _on_person_acted(person, event, policy)
    # It comes before its lead, or a person typed it: neither a lead nor a reply.
    return Step(person, ignored="unproven_summary")


def _as_kind(kind: type[_Text], event: SummaryReceived | MessageReceived, **fields: Any) -> _Text:
    """The same item of the webhook, read as the other kind."""
    same = {name: getattr(event, name) for name in (*Event.__struct_fields__, "mid", "standby")}
    return kind(**(same | fields))


def _on_recovered(person: Person, event: LeadRecovered, policy: Policy) -> Step:
    known = pair(person, event)
    if known is not None and known.lead.answers:
        return Step(person, ignored="already_answered")
    # What was said since keeps the window open, and may have come before a follow-up.
    last = min(event.last_user_message_at, event.received_at)
    person = replace(person, last_user_message_at=max(last, person.last_user_message_at or last))
    if last > event.event_at:
        person = person.with_intervention("reply", last)
    if event.last_page_message_at is not None:
        person = person.with_intervention("human", min(event.last_page_message_at, event.received_at))
    return _on_signal(person, event, policy)


def _on_transcript(person: Person, event: TranscriptFetched, policy: Policy) -> Step:
    state = person.lead(LeadId(event.lead_id))
    if state is None:
        return Step(person, ignored="no_such_lead")
    if is_shed(state):
        return Step(person, ignored="lead_shed")
    if not event.answers:
        return Step(*followup.end_wait(person, state.lead.lead_id, policy, event.received_at), ignored="no_answers")
    if event.event_id in state.signals:
        return Step(person, ignored="duplicate")
    answers = merged(event.answers, state.transcript_answers)
    state = replace(state, transcript_answers=answers, signals=(*state.signals, event.event_id))
    return _publish(person, revise(state, person, policy.page, at=event.received_at), policy)


def _on_erased(person: Person, event: PersonErased, policy: Policy) -> Step:  # noqa: ARG001 - one shape for all handlers
    """Forget the person: a later event begins a new one. Published records are erased in their topics."""
    return Step(Person(page_id=person.page_id, psid=person.psid, mark=person.mark, touched_at=event.received_at))


def _on_promoted(person: Person, event: LeadPromoted, policy: Policy) -> Step:
    """A promotion takes the place of the revision that it was made for, and of no later one; it sets nothing going."""
    promoted = event.state.lead
    known = person.lead(promoted.lead_id)
    if person.has_seen(event.event_id) or (known is not None and known.lead.revision > event.replaces):
        return Step(person, ignored="overtaken")
    state = replace(
        event.state,
        lead=replace(promoted, revision=event.replaces + 1),
        # What was paired otherwise than in the replay is still known when it comes again.
        signals=tuple(dict.fromkeys((*event.state.signals, *(known.signals if known else ())))),
        planned=known.planned if known else (),
    )
    state = followup.passed_over(state, policy.rules, event.received_at)
    wrote = [moment for moment in (person.last_user_message_at, seen_last_message_at(promoted)) if moment is not None]
    person = replace(person.with_lead(state).with_seen(event.event_id), last_user_message_at=max(wrote, default=None))
    person, ended, shed = without_oldest(person, state.lead.lead_id, policy, event.received_at)
    return Step(person, (state.lead, *ended), shed=shed)


def _on_person_acted(
    person: Person, event: MessageReceived | PostbackReceived | ReactionReceived, policy: Policy
) -> Step:
    if person.has_seen(event.event_id):
        return Step(person, ignored="duplicate")
    person = person.with_seen(event.event_id)
    if isinstance(event, ReactionReceived) and event.action != "react":
        return Step(person, ignored="reaction_taken_back")
    acted_at = happened_at(event)
    expires_at = person.thread_control_expires_at
    person = replace(
        person,
        last_user_message_at=max(acted_at, person.last_user_message_at or acted_at),
        # Thread control runs one day from the last user message, or longer where the ad extends it.
        thread_control_expires_at=max(expires_at, control_expires_at(acted_at, THREAD_CONTROL_DEFAULT))
        if expires_at and acted_at < expires_at
        else expires_at,
    )
    person, opted = followup.heed(person, event, policy)
    person, commands = _cancel(person, "reply", event, policy)
    return Step(person, opted + commands)


def _on_echo(person: Person, event: EchoReceived, policy: Policy) -> Step:
    if person.has_seen(event.event_id):
        return Step(person, ignored="duplicate")
    person = person.with_seen(event.event_id)
    without = followup.without_sent(person, event.metadata)
    if without != person or event.app_id == LEADGEN_APP_ID or is_our_app(person, event.app_id, policy.page):
        return Step(without, ignored="own_echo")
    return Step(*_cancel(person, "human", event, policy))


def _publish(person: Person, state: LeadState, policy: Policy) -> Step:
    """The revision, the follow-ups that it sets going, and the transcript that a close without answers asks for."""
    lead, before = state.lead, person.lead(state.lead.lead_id)
    closes = lead.closed and not (before and before.lead.closed)
    outputs: tuple[Output, ...] = (lead,)
    if closes and lead.outcome == "complete" and not lead.answers:
        outputs += (transcript_request(lead),)
        person = with_awaited(person, lead)
    elif lead.answers:
        person = without_awaited(person, lead.lead_id)
    person, commands = followup.plan(person.with_lead(state), state, policy, lead.updated_at)
    person, ended, shed = without_oldest(person, lead.lead_id, policy, lead.updated_at)
    return Step(person, outputs + commands + ended, shed=shed)


def _cancel(person: Person, reason: Cancellation, event: Event, policy: Policy) -> followup.Planned:
    return followup.cancel(person, reason, policy.rules, happened_at(event), event.received_at)


def _with_owner(person: Person, event: Event, owner: AppId | None, expires_at: datetime | None) -> Person:
    is_again = (owner, happened_at(event)) == (person.thread_owner_app_id, person.routed_at)
    if is_again or is_overtaken(person, event):
        return person
    if expires_at is not None:
        person = person.without_intervention("control_lost")
    routed_at = happened_at(event)
    return replace(person, thread_owner_app_id=owner, thread_control_expires_at=expires_at, routed_at=routed_at)


_HANDLERS: dict[type[Event], Callable[[Person, Any, Policy], Step]] = {
    HandoverReceived: _on_handover,
    ThreadControlTaken: _on_thread_control_taken,
    ThreadControlRequested: _on_thread_control_requested,
    LeadReferralReceived: _on_referral_or_summary,
    SummaryReceived: _on_summary,
    MessageReceived: _on_message,
    PostbackReceived: _on_person_acted,
    ReactionReceived: _on_person_acted,
    EchoReceived: _on_echo,
    TranscriptFetched: _on_transcript,
    PersonErased: _on_erased,
    LeadRecovered: _on_recovered,
    LeadPromoted: _on_promoted,
}
