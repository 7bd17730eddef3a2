"""Decide what to do about a command next, from a snapshot of everything that bears on it."""

import unicodedata
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import get_args
from zoneinfo import ZoneInfo

from leads.message import utf16_units, why_unsendable
from leads.pages import Page
from leads.records import AfterSending, OutcomeStatus, SendFollowUp
from leads.rules import QuietHours
from messenger.graph import GraphResponse, conversation_messages, thread_owner
from messenger.limits import CONVERSATION_DETAILS_MAX, METADATA_MAX
from sinks.send.ledger import LONGEST_WINDOW, Attempt
from sinks.send.reasons import ERASED, CancelledReason, ExpiredReason, InDoubtReason, ParkedReason, RejectedReason

_JOIN_PAUSE = timedelta(seconds=1)
_PAGE_CAP_PAUSE = timedelta(minutes=1)
# A call takes less than this from its last look to Meta.
_ON_ITS_WAY = timedelta(seconds=1)
# Our clock and Meta's may differ, and Meta shows whole seconds.
_CLOCK_MARGIN = timedelta(minutes=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """All facts about one command at one moment.

    `attempt` is the last one without a result, `refuted` the number of the last one that is known not to have
    arrived. `recalled` says that a webhook brought news since the command was begun. Before `calls_from` Meta takes no
    call for the Page. `quarantine` is how long after its start a call may still be under way. `is_read_up` says that
    every record is read that lay in Kafka a moment ago and might cancel the command, `is_joined` that the join has
    passed the present, so that no cancellation is still to be emitted. `may_follow` says that the message before it in
    its course may have arrived, `is_unavailable` that Meta refused the person. Before `gap_until` another message to
    them is too fresh.
    """

    command: SendFollowUp
    now: datetime
    quarantine: timedelta
    calls_from: datetime
    is_settled: bool = False
    attempt: Attempt | None = None
    refuted: int = 0
    recalled: bool = False
    cancel_reason: str | None = None
    has_token: bool = True
    is_joined: bool = True
    is_read_up: bool = True
    may_follow: bool = True
    is_unavailable: bool = False
    gap_until: datetime | None = None
    person_cap_reached: bool = False
    page_cap_reached: bool = False


@dataclass(frozen=True, slots=True)
class Done:
    """The command is settled already."""


@dataclass(frozen=True, slots=True)
class Settle:
    """The command ends here, without a call."""

    status: OutcomeStatus
    reason: str
    attempt: int = 0


@dataclass(frozen=True, slots=True)
class Wait:
    """Decide again at this time. Where it `lets_pass`, the person's other commands may go first."""

    until: datetime
    lets_pass: bool = False


@dataclass(frozen=True, slots=True)
class ReadOn:
    """Decide again once more of the topics is read."""


@dataclass(frozen=True, slots=True)
class LookUp:
    """An attempt has no result: look for its message in the conversation."""

    attempt: Attempt


@dataclass(frozen=True, slots=True)
class AskOwner:
    """Another app had the thread: ask for its present owner."""


@dataclass(frozen=True, slots=True)
class Park:
    """Note what the command waits for, without a call, and decide again later."""

    reason: ParkedReason


@dataclass(frozen=True, slots=True)
class Send:
    """Call Meta; `attempt` is the number of the attempt."""

    attempt: int


Call = LookUp | AskOwner | Send
Action = Done | Settle | Wait | ReadOn | Park | Call


class Unclear(Exception):
    """The conversation does not show whether the message arrived."""

    def __init__(self, reason: InDoubtReason) -> None:
        super().__init__(reason)
        self.reason: InDoubtReason = reason


def next_step(snapshot: Snapshot) -> Action:
    """The one action that follows from the snapshot.

    An attempt without a result is looked up before anything else happens, once its quarantine is over. Nothing is sent
    in quiet hours, at the command's end or later.
    """
    if snapshot.is_settled:
        return Done()
    attempt = snapshot.attempt
    is_in_doubt = attempt is not None and attempt.parked is None and attempt.number > snapshot.refuted
    if attempt is not None and is_in_doubt and snapshot.cancel_reason != ERASED:
        return _settle_doubt(snapshot, attempt)
    return _end(snapshot) or _go(snapshot)


def _settle_doubt(snapshot: Snapshot, attempt: Attempt) -> Action:
    no_token: InDoubtReason = "no_access_token"
    ready_at = attempt.at + snapshot.quarantine
    if snapshot.now < ready_at:
        return Wait(ready_at)
    if not snapshot.has_token:
        return Settle("in_doubt", no_token, attempt.number)
    return _call(snapshot, LookUp(attempt))


def _end(snapshot: Snapshot) -> Settle | None:
    if snapshot.cancel_reason is not None:
        return Settle("cancelled", snapshot.cancel_reason)
    if is_over(snapshot.command, snapshot.now):
        parked = snapshot.attempt.parked if snapshot.attempt is not None else None
        return Settle("expired", parked or _why_over(snapshot.command))
    fault = _fault(snapshot.command, snapshot.now)
    return Settle("rejected", fault) if fault is not None else None


def is_over(command: SendFollowUp, now: datetime) -> bool:
    """Whether a call that is made now may reach Meta at the command's end or later."""
    return now >= command.ends_at - _ON_ITS_WAY


def _why_over(command: SendFollowUp) -> ExpiredReason:
    if over_quiet_hours(command, command.ends_at) > command.ends_at:
        return "quiet_hours"
    return "too_late" if command.ends_at == command.not_after else "no_longer_useful"


def _go(snapshot: Snapshot) -> Action:
    thread: ParkedReason = "thread_of_another_app"
    command = snapshot.command
    starts_at = over_quiet_hours(command, max(snapshot.now, command.not_before))
    if snapshot.now < starts_at:
        return Wait(min(starts_at, command.ends_at), lets_pass=snapshot.attempt is None)
    if snapshot.attempt is not None and snapshot.attempt.parked == thread and not snapshot.recalled:
        return _call(snapshot, AskOwner())
    if not snapshot.is_joined:
        return Wait(min(snapshot.now + _JOIN_PAUSE, command.ends_at))
    return _send(snapshot)


def _send(snapshot: Snapshot) -> Action:
    if not snapshot.is_read_up:
        return ReadOn()
    if (reason := _why_withheld(snapshot)) is not None:
        return Settle("cancelled", reason)
    waits = [snapshot.gap_until] if snapshot.gap_until is not None and snapshot.gap_until > snapshot.now else []
    waits += [snapshot.now + _PAGE_CAP_PAUSE] if snapshot.page_cap_reached else []
    if waits:
        return Wait(min(max(waits), snapshot.command.ends_at))
    if not snapshot.has_token:
        return Park("no_access_token")
    number = snapshot.attempt.number if snapshot.attempt is not None else 0
    return _call(snapshot, Send(max(number, snapshot.refuted) + 1))


def _why_withheld(snapshot: Snapshot) -> CancelledReason | None:
    if not snapshot.may_follow:
        return "earlier_step_not_sent"
    if snapshot.is_unavailable:
        return "person_unavailable"
    return "person_cap" if snapshot.person_cap_reached else None


def _call(snapshot: Snapshot, call: Call) -> Action:
    if snapshot.calls_from <= snapshot.now:
        return call
    # Only a look-up is of use after the window.
    until = snapshot.calls_from if isinstance(call, LookUp) else min(snapshot.calls_from, snapshot.command.ends_at)
    return Wait(until)


def _fault(command: SendFollowUp, now: datetime) -> str | None:
    """Why the command can never be sent, None when it can."""
    reason: RejectedReason
    if command.not_after > now + LONGEST_WINDOW:
        reason = "window_too_long"
    elif command.then not in (None, *get_args(AfterSending)):
        reason = "unknown_then"
    elif utf16_units(command.command_id) > METADATA_MAX:
        reason = "command_id_too_long"
    elif command.quiet_hours is not None and _quiet_hours(command.quiet_hours, command.time_zone) is None:
        reason = "invalid_quiet_hours"
    elif (limit := why_unsendable(command.message)) is not None:
        reason = "unsendable_message"
        return f"{reason}: {limit}"
    else:
        return None
    return reason


def over_quiet_hours(command: SendFollowUp, moment: datetime) -> datetime:
    """`moment` itself, or the end of the command's quiet hours that it falls into."""
    hours = _quiet_hours(command.quiet_hours, command.time_zone) if command.quiet_hours is not None else None
    if hours is None:
        return moment
    quiet, zone = hours
    return quiet.over_at(moment, zone)


@lru_cache
def _quiet_hours(text: str, time_zone: str | None) -> tuple[QuietHours, ZoneInfo] | None:
    """None when they are not such hours, or there is no such time zone."""
    try:
        return QuietHours.of(text), ZoneInfo("UTC" if time_zone is None else time_zone)
    except (ValueError, LookupError, OSError):
        return None


def may_send(response: GraphResponse, page: Page) -> bool:
    """Whether the answer to a `thread_owner_request` lets us write: the thread is ours, or nobody's.

    An owner that Meta does not name is not ours.
    """
    # https://developers.facebook.com/documentation/business-messaging/messenger-platform/conversation-routing
    return response.body.get("data") == [] or page.is_target(thread_owner(response.body))


def message_in(response: GraphResponse, command: SendFollowUp, attempt: Attempt, known: Collection[str]) -> str | None:
    """The id of the message that an attempt left in the conversation, None when it surely left none.

    The `known` messages, which other commands have sent, do not count. Raises `Unclear`.
    """
    # The Conversations API shows no metadata, so that only the text can be compared:
    # https://developers.facebook.com/documentation/business-messaging/messenger-platform/conversations
    messages = conversation_messages(response.body)
    since = attempt.at - _CLOCK_MARGIN
    ours = [
        message.mid
        for message in messages
        if message.created_at >= since
        and message.sender_id != command.psid
        and _as_shown(message.text or "") == _as_shown(command.message.text)
        and message.mid not in known
    ]
    if ours:
        return ours[-1]
    if command.message.buttons:
        raise Unclear("not_shown_as_text")
    if not response.body.get("data"):
        raise Unclear("no_conversation")
    if len(messages) >= CONVERSATION_DETAILS_MAX and messages[-1].created_at >= since:
        raise Unclear("conversation_moved_on")
    return None


def _as_shown(text: str) -> str:
    """The part of a text that Meta keeps: it may show other spaces, or no control characters.

    An overlooked message would be sent again, so that a doubtful likeness counts as the same text.
    """
    composed = unicodedata.normalize("NFKC", text)
    return "".join(character for character in composed if character.isprintable() and not character.isspace())
