"""Texts that something forbids: the person, a human, Meta, an erasure, a later flow, or the quiet hours."""

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from zoneinfo import ZoneInfo

from leads.facts import JoinEvent, PersonErased, Progress
from leads.pages import Page, Pages
from leads.records import Lead, SendFollowUp
from messenger.events import (
    EchoReceived,
    HandoverReceived,
    LeadReferralReceived,
    MessageReceived,
    PageId,
    PolicyEnforced,
    PostbackReceived,
    Psid,
)
from messenger.limits import LEADGEN_APP_ID, SUMMARY_PREFIX
from operations.audit.history import Effect, History, decoded
from runtime.clock import from_millis
from schemas.codec import event_codec, lead_codec
from schemas.topics import EVENTS, LEADS, WEBHOOKS
from streams.dead_letters import tried
from streams.split import Split, split

_SECOND = timedelta(seconds=1)
# A stamp of the same flow may be later than its end by so much.
_SAME_FLOW = timedelta(seconds=2)
# A flow that ends so long after a stop word says that the person wants to be written to.
_OPTS_IN = timedelta(seconds=170)
_LATER_FLOW = "a_later_flow"
_Place = tuple[str, str, int, int, int]


@dataclass(frozen=True, slots=True)
class Slack:
    """How much later than its last look a text may arrive.

    `call` is the timeout of a call, and the greatest age of the sink's look ahead; `way` is how long a request may take
    to Meta, `join` how old a command may be and still go without the join's progress. `clocks` is how far the clock
    that says when a text arrived may differ from the broker's, and `echo` how long it may take to be known.
    """

    call: timedelta = timedelta(seconds=10)
    way: timedelta = timedelta(seconds=10)
    join: timedelta = timedelta(seconds=6)
    clocks: timedelta = timedelta(0)
    echo: timedelta = timedelta(0)

    @property
    def look(self) -> timedelta:
        """From the receipt of a webhook that the join has to see."""
        return 2 * self.call + self.join + self.clocks

    @property
    def reading(self) -> timedelta:
        """From the record of an event that the sink has to read."""
        return self.call + self.way + _SECOND + self.clocks


@dataclass(frozen=True, slots=True)
class Events:
    """The events of the log by person, those of a Page under no person, and when each came into the events' topic.

    `of_referrals` has the revisions that show a referral, by its person and time.
    """

    of_person: defaultdict[tuple[PageId, Psid | None], list[JoinEvent]] = field(
        default_factory=lambda: defaultdict(list)
    )
    split_at: dict[_Place, datetime] = field(default_factory=dict)
    of_referrals: defaultdict[tuple[PageId, Psid, datetime], list[Lead]] = field(
        default_factory=lambda: defaultdict(list)
    )

    @classmethod
    def of(cls, history: History, pages: Pages, people: Collection[tuple[PageId, Psid]]) -> "Events":
        """The events of these people, and of their Pages."""
        events, codec, of_pages = cls(), event_codec(history.ids), {page_id for page_id, _ in people}
        for record in history.of(WEBHOOKS) if people else ():
            done = tried(record, partial(split, [record], pages.aliases, codec=codec))
            for event in done.events if isinstance(done, Split) else ():
                person = event.page_id, event.psid
                if person in people or (event.psid is None and event.page_id in of_pages):
                    events.of_person[person].append(event)
        for record in history.of(EVENTS) if people else ():
            read = decoded(codec, record)
            if read is not None and not isinstance(read, Progress):
                events.split_at.setdefault(_place(read, record.partition), from_millis(record.timestamp))
        leads = lead_codec(history.ids)
        for record in history.of(LEADS) if people else ():
            lead = decoded(leads, record)
            if lead is not None and lead.referral_at is not None:
                events.of_referrals[lead.page_id, lead.psid, lead.referral_at].append(lead)
        return events

    def is_of_earlier(self, referral: JoinEvent, command: SendFollowUp) -> bool:
        """Whether the join took the referral for one of the command's flow, or of a flow that had ended by then."""
        ended_at = command.flow_ended_at
        shown = self.of_referrals.get((command.page_id, command.psid, referral.event_at), ())
        return any(
            lead.lead_id == command.lead_id
            or (lead.handover_at is not None and ended_at is not None and lead.handover_at <= ended_at + _SAME_FLOW)
            for lead in shown
        )

    def about(self, command: SendFollowUp) -> Sequence[JoinEvent]:
        return [*self.of_person[command.page_id, command.psid], *self.of_person[command.page_id, None]]


def _place(event: JoinEvent, partition: int) -> _Place:
    origin = event.origin
    return event.event_id, origin.topic, origin.partition, origin.offset, partition


def reasons(
    command: SendFollowUp, partition: int, effect: Effect, events: Events, page: Page, slack: Slack
) -> Iterator[str]:
    """Why this text was forbidden, by events that were known long enough before it; `partition` is the command's."""
    about = events.about(command)
    if _is_quiet(command, effect.at) and _is_quiet(command, effect.at - slack.way - slack.clocks - _SECOND):
        yield "in_quiet_hours"
    for event in about:
        split_at = events.split_at.get(_place(event, partition))
        is_read = split_at is not None and split_at < effect.at - slack.reading
        is_joined = event.received_at < effect.at - slack.look
        reason = _reason(command, page, event, about, is_joined=is_joined) if is_read or is_joined else None
        if reason is not None and not (reason == _LATER_FLOW and events.is_of_earlier(event, command)):
            yield f"after_{reason}"


def _reason(
    command: SendFollowUp, page: Page, event: JoinEvent, about: Sequence[JoinEvent], *, is_joined: bool
) -> str | None:
    """What the event is for the command: the sink minds what came after the command, the join all after the flow."""
    ended_at, is_later = command.flow_ended_at, event.received_at > command.created_at
    is_after_flow = ended_at is not None and event.event_at > ended_at + _SAME_FLOW
    stops = is_after_flow and (is_later or is_joined) if ended_at is not None else is_later
    match event:
        case MessageReceived() | PostbackReceived() if _is_opt_out(event, about, page):
            return "stop_word"
        case MessageReceived() | PostbackReceived() if stops and "reply" in command.cancel_on:
            return "reply" if not _is_summary(event) else None
        case EchoReceived() if stops and "human" in command.cancel_on and is_human(event, page):
            return "human"
        case PersonErased() if command.created_at <= event.received_at:
            return "erasure"
        case PolicyEnforced(action="block") if is_later and not _is_lifted(event, about):
            return "block"
        case _:
            return _LATER_FLOW if isinstance(event, LeadReferralReceived) and is_joined and is_after_flow else None


def _is_summary(event: MessageReceived | PostbackReceived) -> bool:
    return isinstance(event, MessageReceived) and (event.text or "").startswith(SUMMARY_PREFIX)


def is_human(echo: EchoReceived, page: Page) -> bool:
    """Whether somebody else wrote for the Page; nobody knows where nothing says which app is ours."""
    return page.target_app is not None and echo.app_id not in (LEADGEN_APP_ID, page.target_app)


def _says(event: MessageReceived | PostbackReceived, words: Collection[str]) -> bool:
    texts = (event.text if isinstance(event, MessageReceived) else event.title, event.payload)
    return any(text is not None and text.strip(" .!").lower() in words for text in texts)


def _is_opt_out(said: MessageReceived | PostbackReceived, about: Sequence[JoinEvent], page: Page) -> bool:
    """Whether it is a stop word, and nothing since says the contrary, by Meta's stamps; an erasure forgets it."""
    if not _says(said, page.stop_words):
        return False
    for event in about:
        match event:
            case MessageReceived() | PostbackReceived() if _says(event, page.start_words):
                is_later = event.event_at >= said.event_at - _SECOND
            case HandoverReceived() | LeadReferralReceived():
                is_later = event.event_at >= said.event_at + _OPTS_IN
            case PersonErased():
                is_later = event.received_at >= said.received_at
            case _:
                continue
        if is_later:
            return False
    return True


def _is_lifted(block: PolicyEnforced, about: Sequence[JoinEvent]) -> bool:
    """Whether an unblock that Meta stamped later was known first."""
    return any(
        isinstance(event, PolicyEnforced)
        and event.action == "unblock"
        and event.event_at >= block.event_at
        and event.received_at <= block.received_at
        for event in about
    )


def _is_quiet(command: SendFollowUp, moment: datetime) -> bool:
    if command.quiet_hours is None:
        return False
    local = f"{moment.astimezone(ZoneInfo(command.time_zone or 'UTC')):%H:%M}"
    start, _, end = command.quiet_hours.partition("-")
    return start <= local < end if start < end else not end <= local < start
