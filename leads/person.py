"""The join's state: of one person on one Page, and of the Page itself."""

from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from msgspec.structs import replace

from leads.facts import JoinEvent
from leads.records import Cancellation, CancelReason, LeadId, LeadState, remembered
from messenger.events import AppId, Compact, Event, LeadReferralReceived, PageId, Psid, SummaryReceived
from messenger.limits import MESSAGING_WINDOW

STATE_TTL = timedelta(days=30)
SEEN_EVENTS = 32
_NEVER = datetime(9999, 1, 1, tzinfo=UTC)


class Scheduled(Compact, frozen=True):
    """A step, counted from 1, of a rule that was set going, and that is not due yet."""

    lead_id: LeadId
    rule: str
    due_at: datetime
    step: int = 1


class Awaited(Compact, frozen=True):
    """A lead whose transcript was asked for, and until when rules wait for it."""

    lead_id: LeadId
    until: datetime


class Issued(Compact, frozen=True):
    """A step of a rule whose command was issued and may still wait to be sent, until `not_after`."""

    lead_id: LeadId
    rule: str
    step: int
    not_after: datetime
    cancel_on: tuple[Cancellation, ...]


class Intervention(Compact, frozen=True):
    """The newest time at which something came between us and the person: what a rule's `cancel_on` names, or Meta."""

    reason: CancelReason
    happened_at: datetime


class Mark(Compact, frozen=True):
    """The newest item of one raw partition that was folded into a person."""

    topic: str
    partition: int
    offset: int
    item: int


class Person(Compact, frozen=True, kw_only=True):
    """Everything that the join remembers of one person.

    `mark` is the last record of `messenger-events` that was folded in; `marks` say the same of the raw topic, so that
    a duplicate by the splitter counts once. `assumed` are the leads whose outcome no signal has said. `kept` are lead
    signals on standby whose flow may be handed to us yet; `handed_away_at` is when another app last got a flow.
    """

    page_id: PageId
    psid: Psid
    mark: int = -1
    marks: tuple[Mark, ...] = ()
    seen: tuple[str, ...] = ()
    leads: tuple[LeadState, ...] = ()
    scheduled: tuple[Scheduled, ...] = ()
    issued: tuple[Issued, ...] = ()
    last_user_message_at: datetime | None = None
    thread_owner_app_id: AppId | None = None
    thread_control_expires_at: datetime | None = None
    routed_at: datetime | None = None
    interventions: tuple[Intervention, ...] = ()
    touched_at: datetime
    flow_began_at: datetime | None = None
    assumed: tuple[LeadId, ...] = ()
    opted_out_at: datetime | None = None
    opted_in_at: datetime | None = None
    kept: tuple[LeadReferralReceived | SummaryReceived, ...] = ()
    handed_away_at: datetime | None = None
    awaited: tuple[Awaited, ...] = ()

    def with_intervention(self, reason: CancelReason, happened_at: datetime) -> "Person":
        """The person with this remembered, unless a newer one of its kind is."""
        known = next((intervention for intervention in self.interventions if intervention.reason == reason), None)
        if known is not None and known.happened_at >= happened_at:
            return self
        others = tuple(intervention for intervention in self.interventions if intervention is not known)
        return replace(self, interventions=(*others, Intervention(reason, happened_at)))

    def without_intervention(self, reason: CancelReason) -> "Person":
        """The person to whom nothing of this kind has happened."""
        others = tuple(intervention for intervention in self.interventions if intervention.reason != reason)
        return self if len(others) == len(self.interventions) else replace(self, interventions=others)

    def with_lead(self, state: LeadState) -> "Person":
        """The person with this lead put in the place of its former self, or added as the newest."""
        # News is mostly of the newest.
        places = range(len(self.leads) - 1, -1, -1)
        index = next((index for index in places if self.leads[index].lead.lead_id == state.lead.lead_id), None)
        if index is None:
            return replace(self, leads=(*self.leads, state))
        return replace(self, leads=(*self.leads[:index], state, *self.leads[index + 1 :]))

    def lead(self, lead_id: LeadId) -> LeadState | None:
        return next((state for state in reversed(self.leads) if state.lead.lead_id == lead_id), None)

    @property
    def deadlines(self) -> tuple[datetime, ...]:
        """The closings of open leads, the due times of follow-ups, and the ends of waits for transcripts."""
        closings = [state.closes_at for state in self.leads if not state.lead.closed]
        due = [scheduled.due_at for scheduled in self.scheduled]
        return (*closings, *due, *[awaited.until for awaited in self.awaited])

    @property
    def is_idle(self) -> bool:
        """Whether nothing is waited for."""
        return not self.deadlines

    @property
    def is_opted_out(self) -> bool:
        """Whether the person sent a stop word, and neither finished a later flow nor sent a start word since."""
        return self.opted_out_at is not None and (self.opted_in_at is None or self.opted_in_at < self.opted_out_at)

    @property
    def forget_at(self) -> datetime:
        """When an idle person is of no more use, unless something new comes. Of an opt-out that is never."""
        if self.is_opted_out and not self.leads and not self.seen:
            return _NEVER
        return self.touched_at + STATE_TTL

    def has_seen(self, event_id: str) -> bool:
        """Whether this event is among the last that were folded in."""
        return event_id in self.seen or remembered(event_id) in self.seen

    def with_seen(self, event_id: str) -> "Person":
        """The person with this event remembered."""
        return replace(self, seen=(*self.seen, remembered(event_id))[-SEEN_EVENTS:])

    def without_the_old(self, until: datetime) -> "Person":
        """The person without what is too old to matter at this time.

        Each fact is forgotten `STATE_TTL` after its own time, however busy the person is since, so that a replay which
        reads as long before its start knows the same. Only an opt-out, which says nothing of leads, stays longer.
        """
        if self.forget_at <= until and self.is_idle:
            return self.forgotten()
        since = until - STATE_TTL
        person = self._without_old_leads(since) if self.leads else self
        issued = tuple(command for command in person.issued if command.not_after >= until)
        if len(issued) < len(person.issued):
            person = replace(person, issued=issued)
        return person._without_old_facts(since)

    def _without_old_leads(self, since: datetime) -> "Person":
        kept = tuple(state for state in self.leads if not state.lead.closed or state.lead.first_seen_at > since)
        if len(kept) == len(self.leads):
            return self
        ids = {state.lead.lead_id for state in kept}
        return replace(self, leads=kept, assumed=tuple(lead_id for lead_id in self.assumed if lead_id in ids))

    def _without_old_facts(self, since: datetime) -> "Person":
        person = self
        if _is_past(self.last_user_message_at, since):
            person = replace(person, last_user_message_at=None)
        if _is_past(self.routed_at, since):
            person = replace(person, thread_owner_app_id=None, thread_control_expires_at=None, routed_at=None)
        if _is_past(self.flow_began_at, since):
            person = replace(person, flow_began_at=None)
        if _is_past(self.opted_in_at, since) and not self.is_opted_out:
            person = replace(person, opted_out_at=None, opted_in_at=None)
        fresh = tuple(intervention for intervention in self.interventions if intervention.happened_at > since)
        return person if len(fresh) == len(self.interventions) else replace(person, interventions=fresh)

    def forgotten(self) -> "Person":
        """The person without everything but the marks and an opt-out."""
        return Person(
            page_id=self.page_id,
            psid=self.psid,
            mark=self.mark,
            marks=self.marks,
            touched_at=self.touched_at,
            opted_out_at=self.opted_out_at if self.is_opted_out else None,
        )

    @property
    def wake_at(self) -> datetime:
        """The first time at which this person changes though no event comes."""
        return min(self.deadlines, default=None) or self.forget_at


class PageState(Compact, frozen=True, kw_only=True):
    """The state of a Page, which concerns all of its people.

    `stated_at` is Meta's newest stamp. `blocked_at` is when a block was received, None while nothing blocks the Page.
    `mark` and `marks` are as a person's.
    """

    page_id: PageId
    mark: int = -1
    marks: tuple[Mark, ...] = ()
    stated_at: datetime | None = None
    blocked_at: datetime | None = None


State = TypeVar("State", Person, PageState)


def is_folded(state: State, event: JoinEvent) -> bool:
    """Whether the event, or a later one of its raw partition, is in the state: then this one is a duplicate."""
    origin = event.origin
    place = (origin.topic, origin.partition)
    mark = next((mark for mark in state.marks if (mark.topic, mark.partition) == place), None)
    return mark is not None and (origin.offset, origin.item) <= (mark.offset, mark.item)


def folded(state: State, event: JoinEvent) -> State:
    """The state with this event marked."""
    origin = event.origin
    place = (origin.topic, origin.partition)
    marks = [mark for mark in state.marks if (mark.topic, mark.partition) != place]
    marks.append(Mark(origin.topic, origin.partition, origin.offset, origin.item))
    return replace(state, marks=tuple(marks))


def without_offsets(state: State, topics: Collection[str], *, of_events: bool) -> State:
    """The state without the offsets of these topics, which begin again; `of_events` if those of the join's own do."""
    marks = tuple(mark for mark in state.marks if mark.topic not in topics)
    return replace(state, mark=-1 if of_events else state.mark, marks=marks)


def _is_past(moment: datetime | None, since: datetime) -> bool:
    return moment is not None and moment <= since


def happened_at(event: Event) -> datetime:
    """Meta's stamp of an event; one ahead of its receipt counts as the receipt."""
    return min(event.event_at, event.received_at)


def is_overtaken(person: Person, event: Event) -> bool:
    """Whether a retry brings a routing event of the past: the last stamp of Meta says who has the thread."""
    return person.routed_at is not None and happened_at(event) < person.routed_at


def closes_at(last_user_message_at: datetime) -> datetime:
    """The end of the messaging window that the person's last message opened; at that instant it is closed."""
    return last_user_message_at + MESSAGING_WINDOW


def control_expires_at(since: datetime, granted: timedelta) -> datetime:
    """The end of thread control that was granted, or renewed by the person's last message, at `since`."""
    return since + granted
