"""What to do about a command next, and what a conversation says of an attempt without a result."""

import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import get_args

from leads.message import utf16_units, why_unsendable
from leads.pages import Page
from leads.records import AfterSending, OutcomeStatus, SendFollowUp
from messenger.graph import GraphResponse, conversation_messages, thread_owner
from messenger.limits import CONVERSATION_DETAILS_MAX, METADATA_MAX
from sinks.send.ledger import LONGEST_WINDOW, Attempt

WAITS_FOR_THREAD = "another app has the thread"
WAITS_FOR_PAGE = "the Page is blocked"
# The reason of a command that is settled by a record without a value, for its person is erased.
ERASED = "erased"
WAITS_FOR_TOKEN = "no access token for this page"

# Our clock and Meta's may differ, and Meta shows whole seconds.
_CLOCK_MARGIN = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Settle:
    """The command ends here, without a call."""

    status: OutcomeStatus
    reason: str


@dataclass(frozen=True, slots=True)
class Wait:
    until: datetime


@dataclass(frozen=True, slots=True)
class LookUp:
    """An attempt has no result: look for its message in the conversation."""

    attempt: Attempt


@dataclass(frozen=True, slots=True)
class AskOwner:
    """Another app had the thread: ask who has it now."""


@dataclass(frozen=True, slots=True)
class Send:
    number: int


Next = Settle | Wait | LookUp | AskOwner | Send


class Unclear(Exception):
    """The conversation does not show whether the message arrived."""


def next_step(
    command: SendFollowUp,
    attempt: Attempt | None,
    now: datetime,
    *,
    refuted: int,
    cancel_reason: str | None,
    quarantine: timedelta,
    recalled: bool = False,
) -> Next:
    """What to do about a command that is not settled.

    An attempt without a result is in doubt, until it is known that it reached nobody (`refuted` is the last such one).
    It is looked up no sooner than `quarantine` after it began, when the call can no longer be under way. A command that
    waits for the thread asks who has it, unless a webhook said that it is ours (`recalled`).
    """
    number = attempt.number if attempt is not None else 0
    if attempt is not None and attempt.parked is None and number > refuted:
        ready_at = attempt.at + quarantine
        return LookUp(attempt) if now >= ready_at else Wait(ready_at)
    ending = _ending(command, attempt, now, cancel_reason)
    if ending is not None:
        return ending
    if now < command.not_before:
        return Wait(command.not_before)
    if attempt is not None and attempt.parked == WAITS_FOR_THREAD and not recalled:
        return AskOwner()
    return Send(max(number, refuted) + 1)


def _ending(command: SendFollowUp, attempt: Attempt | None, now: datetime, cancel_reason: str | None) -> Settle | None:
    """Why the command is not sent at all, if so."""
    if cancel_reason is not None:
        return Settle("cancelled", cancel_reason)
    if now > command.not_after:
        return Settle("expired", (attempt and attempt.parked) or "not sent before not_after")
    if command.not_after > now + LONGEST_WINDOW:
        return Settle("rejected", "its window is longer than any of Meta's")
    if command.then not in (None, *get_args(AfterSending)):
        return Settle("rejected", "nobody knows what it would do with the thread")
    if utf16_units(command.command_id) > METADATA_MAX:
        return Settle("rejected", f"its command_id is longer than {METADATA_MAX} characters")
    fault = why_unsendable(command.message)
    return Settle("rejected", fault) if fault is not None else None


def may_send(response: GraphResponse, page: Page) -> bool:
    """Whether the answer to a `thread_owner_request` lets us write: the thread is ours, or nobody's.

    An owner that Meta does not name is not ours.
    """
    # https://developers.facebook.com/documentation/business-messaging/messenger-platform/conversation-routing
    return response.body.get("data") == [] or page.is_target(thread_owner(response.body))


def message_in(
    response: GraphResponse, command: SendFollowUp, attempt: Attempt, is_known: Callable[[str], bool]
) -> str | None:
    """The id of the message that an attempt left in the conversation, None when it surely left none.

    Messages that another command is known to have sent do not count. Raises `Unclear`.
    """
    # The Conversations API shows no metadata, so that the text has to tell:
    # https://developers.facebook.com/documentation/business-messaging/messenger-platform/conversations
    messages = conversation_messages(response.body)
    since = attempt.at - _CLOCK_MARGIN
    ours = [
        one.mid
        for one in messages
        if one.created_at >= since
        and one.sender_id != command.psid
        and _as_shown(one.text or "") == _as_shown(command.message.text)
        and not is_known(one.mid)
    ]
    if ours:
        return ours[-1]
    if command.message.buttons:
        raise Unclear("templates are not shown as text")
    if not response.body.get("data"):
        raise Unclear("no conversation is shown")
    if len(messages) >= CONVERSATION_DETAILS_MAX and messages[-1].created_at >= since:
        raise Unclear("the conversation has moved on")
    return None


def _as_shown(text: str) -> str:
    """What stays the same of a text that may come back with other spaces, or without its control characters.

    A message that is overlooked would be sent again, so that a doubtful likeness counts.
    """
    composed = unicodedata.normalize("NFKC", text)
    return "".join(one for one in composed if one.isprintable() and not one.isspace())
