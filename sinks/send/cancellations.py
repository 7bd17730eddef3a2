"""Events that cancel a waiting follow-up: a reply, a human answer, lost control, a blocked Page."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

from leads.facts import JoinEvent
from leads.opt_out import says_stop
from leads.pages import Pages
from leads.records import PAGE_BLOCKED, Cancellation, CancelReason, SendFollowUp
from messenger.events import (
    AppId,
    EchoReceived,
    HandoverReceived,
    MessageReceived,
    PageId,
    PlatformEvent,
    PolicyEnforced,
    PostbackReceived,
    ReactionReceived,
    ThreadControlTaken,
    person_key,
)
from messenger.limits import LEADGEN_APP_ID, SUMMARY_PREFIX

# A command may come this much later than an event that cancels it, counted from `created_at`.
REMEMBERED = timedelta(minutes=15)
# So many people, and stamps that lie ahead, are remembered for when Meta delivers an event again.
_KEPT = 10_000


@dataclass(frozen=True, slots=True)
class _Policy:
    """Meta's last word about a Page, and its time; commands made up to `cancels_until` are cancelled."""

    blocked: bool
    said_at: datetime
    cancels_until: datetime


class _Came(NamedTuple):
    """When an event was received, and when it happened by Meta's stamp."""

    received_at: datetime
    happened_at: datetime

    def is_within(self, other: "_Came") -> bool:
        """Whether the other one cancels all that this one does."""
        return self.received_at <= other.received_at and self.happened_at <= other.happened_at

    def cancels(self, command: SendFollowUp) -> bool:
        ended_at = command.flow_ended_at
        return command.created_at < self.received_at and (ended_at is None or self.happened_at >= ended_at)


class Interventions:
    """Takes in platform events, in any order, and gives the reason for which they cancel a command.

    An event cancels what was made before its receipt; both times are the broker's. Of a command that says when its
    lead's flow ended, an event must have happened since then, by Meta's stamps, as in the join. It is given all events
    that were received after `since`.
    """

    def __init__(self, pages: Pages, since: datetime) -> None:
        self._pages, self._since = pages, since
        self._newest: dict[tuple[str, Cancellation], tuple[_Came, ...]] = {}
        self._policies: dict[PageId, _Policy] = {}
        self._stopped: dict[str, datetime] = {}
        self._routed: dict[str, datetime] = {}
        self._ahead: dict[str, datetime] = {}

    def note(self, event: JoinEvent) -> bool:
        """Take in an event; whether it may cancel anything."""
        self._since = min(self._since, event.received_at)
        if isinstance(event, PolicyEnforced) and event.action in ("block", "unblock"):
            self._note_policy(event)
            return True
        if isinstance(event, MessageReceived | PostbackReceived) and says_stop(event, self._pages.get(event.page_id)):
            self._note_stop_word(event)
        happened_at, person = self._happened_at(event), person_key(event.page_id, event.psid or "")
        reason = self._reason(event)
        if isinstance(event, HandoverReceived | ThreadControlTaken) and self._is_overtaken(person, happened_at):
            reason = None
        if reason is not None:
            key = person, reason
            came = _Came(event.received_at, happened_at)
            since = event.received_at - REMEMBERED
            # An event that Meta delivers again is received last, and happened before others.
            others = (other for other in self._newest.pop(key, ()) if not other.is_within(came))
            self._newest[key] = (*(other for other in others if other.received_at >= since), came)
            self._forget_before(since)
        return reason is not None

    def _happened_at(self, event: JoinEvent) -> datetime:
        """Meta's stamp; of one that lies ahead, the first receipt of the event."""
        if event.event_at > event.received_at:
            _keep(self._ahead, event.event_id, self._ahead.get(event.event_id, event.received_at))
        return self._ahead.get(event.event_id, event.event_at)

    def _is_overtaken(self, person: str, routed_at: datetime) -> bool:
        """Whether the thread went elsewhere since: the last stamp of Meta says who has it."""
        newest = max(self._routed.get(person, routed_at), routed_at)
        _keep(self._routed, person, newest)
        return routed_at < newest

    def _note_policy(self, event: PolicyEnforced) -> None:
        """Take in a newer word of Meta's: each partition has a copy, and Meta repeats deliveries."""
        blocks, said_at = event.action == "block", min(event.event_at, event.received_at)
        last = self._policies.get(event.page_id)
        if last is not None and (said_at < last.said_at or (said_at == last.said_at and blocks == last.blocked)):
            return
        if blocks and said_at < self._since:
            # The block may have ended before the first event that we know.
            return
        # An unblock of a block that we do not know may be an old one that Meta delivers again.
        until = event.received_at if blocks or last is not None else said_at
        self._policies[event.page_id] = _Policy(blocks, said_at, until)

    def _note_stop_word(self, event: MessageReceived | PostbackReceived) -> None:
        person = person_key(event.page_id, event.psid or "")
        self._stopped[person] = max(event.received_at, self._stopped.pop(person, event.received_at))
        while self._stopped[oldest := next(iter(self._stopped))] < event.received_at - REMEMBERED:
            del self._stopped[oldest]

    def stopped_at(self, person: str) -> datetime | None:
        """When the person's last stop word was received: the join says whether it is an opt-out."""
        return self._stopped.get(person)

    def is_blocked(self, page_id: PageId) -> bool:
        """Whether Meta blocks the Page, by the events so far."""
        policy = self._policies.get(page_id)
        return policy is not None and policy.blocked

    def cancels(self, command: SendFollowUp) -> CancelReason | None:
        """The reason for which a later event cancels the command, by the events so far; None when none does."""
        policy = self._policies.get(command.page_id)
        if policy is not None and command.created_at <= policy.cancels_until:
            return PAGE_BLOCKED
        person = person_key(command.page_id, command.psid)
        for reason in command.cancel_on:
            if any(came.cancels(command) for came in self._newest.get((person, reason), ())):
                return reason
        return None

    def _forget_before(self, moment: datetime) -> None:
        while max(came.received_at for came in next(iter(self._newest.values()))) < moment:
            del self._newest[next(iter(self._newest))]

    def _reason(self, event: JoinEvent) -> Cancellation | None:
        match event:
            case MessageReceived(text=str(text)) if text.startswith(SUMMARY_PREFIX):
                # It may be the lead's summary without a hop; the join knows, and cancels if it is a reply.
                return None
            case MessageReceived() | PostbackReceived() | ReactionReceived(action="react"):
                return "reply"
            case EchoReceived() if event.app_id != LEADGEN_APP_ID and not self._wrote(event):
                return "human"
            case HandoverReceived() | ThreadControlTaken() if self._is_lost_to(event, event.new_owner_app_id):
                return "control_lost"
            case _:
                return None

    def _wrote(self, echo: EchoReceived) -> bool:
        return self._pages.get(echo.page_id).is_named(echo.app_id)

    def _is_lost_to(self, event: PlatformEvent, app_id: AppId | None) -> bool:
        """Leadgen gives the thread back when the flow ends; until then Meta refuses what we send."""
        return app_id != LEADGEN_APP_ID and not self.is_ours(event, app_id)

    def is_ours(self, event: PlatformEvent, app_id: AppId | None) -> bool:
        return self._pages.get(event.page_id).is_target(app_id)


def _keep(moments: dict[str, datetime], key: str, moment: datetime) -> None:
    """Put in a time as the newest, and forget the oldest where there are too many."""
    moments.pop(key, None)
    moments[key] = moment
    if len(moments) > _KEPT:
        del moments[next(iter(moments))]
