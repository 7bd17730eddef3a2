"""Lead, follow-up command, follow-up outcome, transcript request: the facts and requests we publish.

Field names are the contract with every consumer; `schemas/*.avsc` hold the same names and a test compares them.
Times are UTC with millisecond precision.
"""

from datetime import datetime
from hashlib import sha256
from typing import Final, Literal, NewType
from uuid import UUID, uuid5

from msgspec import Struct

from messenger.events import Ad, Answer, AppId, Compact, LeadOutcome, PageId, Psid

LeadId = NewType("LeadId", str)

_ID_MAX = 512
# For ever: another namespace would give every lead of the past another id.
_NAMESPACE = UUID("6f0f7b0e-4a52-5f5e-9a5c-2f6f1f1d9c11")

AnswersSource = Literal["referral", "summary", "transcript", "none"]
Cancellation = Literal["reply", "human", "control_lost"]
# Meta lets nothing be sent for the Page, whatever a rule says.
PAGE_BLOCKED: Final = "page_blocked"
# The lead was shed: its person has more leads than the join can remember whole.
SHED: Final = "shed"
# The person ended a later flow.
SUPERSEDED: Final = "superseded"
# The newest revision of the lead no longer meets the conditions of the rule.
CONDITIONS_CHANGED: Final = "conditions_changed"
# The person sent a stop word. A record with this reason stands for the whole person: no command is sent to them until a
# record with `OPTED_IN` follows.
OPTED_OUT: Final = "opted_out"
OPTED_IN: Final = "opted_in"
# The rule of these records, which no rule of `followups.yaml` may have as its name.
NOTICE_RULE: Final = "opt-out"
CancelReason = Cancellation | Literal["page_blocked", "shed", "superseded", "conditions_changed", "opted_out"]
AfterSending = Literal["pass_to_inbox", "release"]
CloseReason = Literal["all_signals", "join_wait", "recovered", "shed"]
OutcomeStatus = Literal[
    "attempting", "sent", "delivered", "read", "rejected", "expired", "cancelled", "parked", "in_doubt"
]

ConversionStatus = Literal["attempting", "parked", "sent", "rejected", "expired", "in_doubt"]


class WebhookOrigin(Compact, frozen=True):
    """A record that a lead was made from: a webhook, or the fact of ours that recovered it."""

    topic: str
    partition: int
    offset: int


class Lead(Compact, frozen=True, kw_only=True):
    """One lead as it stands at one revision; a higher revision of the same `lead_id` replaces it."""

    lead_id: LeadId
    revision: int
    page_id: PageId
    psid: Psid
    outcome: LeadOutcome
    answers: tuple[Answer, ...] = ()
    answers_source: AnswersSource = "none"
    summary_text: str | None = None
    ad: Ad | None = None
    target_app_id: AppId | None = None
    handover_at: datetime | None = None
    referral_at: datetime | None = None
    summary_at: datetime | None = None
    first_seen_at: datetime
    updated_at: datetime
    last_user_message_at: datetime | None = None
    messaging_window_closes_at: datetime
    thread_control_expires_at: datetime | None = None
    closed: bool = False
    close_reason: CloseReason | None = None
    origins: tuple[WebhookOrigin, ...] = ()
    transcript_at: datetime | None = None


class LeadState(Compact, frozen=True):
    """A lead with what its record does not show: the signals it was made from, and what the rules did about it."""

    lead: Lead
    signals: tuple[str, ...]
    closes_at: datetime
    referral_answers: tuple[Answer, ...] = ()
    transcript_answers: tuple[Answer, ...] = ()
    planned: tuple[str, ...] = ()


class QuickReply(Struct, frozen=True):
    title: str
    payload: str


class Button(Struct, frozen=True):
    """A `web_url` button has a `url`, a `postback` button a `payload`."""

    type: Literal["web_url", "postback"]
    title: str
    url: str | None = None
    payload: str | None = None


class FollowUpMessage(Struct, frozen=True):
    """The text that the person will read. Buttons make it a button template, whose text is shorter."""

    text: str
    quick_replies: tuple[QuickReply, ...] = ()
    buttons: tuple[Button, ...] = ()


class SendFollowUp(Struct, frozen=True, kw_only=True):
    """A follow-up command: send `message` once between `not_before` and `not_after`, or never.

    A record with a `cancel_reason` sends nothing: it cancels the command of the same id, which comes before it. With
    `OPTED_OUT` it ends all commands to the person, those after it too, until one with `OPTED_IN` comes.
    The planner cancels its own commands so. `cancel_on` says what cancels it as long as it waits: the person wrote,
    somebody else answered, another app got the thread; what happened before `flow_ended_at` does not. In its
    `quiet_hours`, such as 21:00-08:00 in `time_zone` or UTC, it waits. At `useful_until` it is of no more use. It
    `follows` a command without which it is not sent. `then` says what becomes of the thread once the message is sent.
    """

    command_id: str
    lead_id: LeadId
    page_id: PageId
    psid: Psid
    rule: str
    step: int
    created_at: datetime
    not_before: datetime
    not_after: datetime
    message: FollowUpMessage
    cancel_reason: str | None = None
    then: AfterSending | None = None
    cancel_on: tuple[Cancellation, ...] = ()
    quiet_hours: str | None = None
    time_zone: str | None = None
    useful_until: datetime | None = None
    follows: str | None = None
    flow_ended_at: datetime | None = None

    @property
    def ends_at(self) -> datetime:
        """It is never sent then or later."""
        return min(self.not_after, self.useful_until or self.not_after)


class FollowUpOutcome(Struct, frozen=True, kw_only=True):
    """The outcome of a command; the newest outcome of a `command_id` is the send ledger's entry for it."""

    command_id: str
    lead_id: LeadId
    page_id: PageId
    psid: Psid
    rule: str
    step: int
    status: OutcomeStatus
    occurred_at: datetime
    attempt: int = 0
    mid: str | None = None
    error_code: int | None = None
    error_subcode: int | None = None
    reason: str | None = None


class FetchTranscript(Struct, frozen=True, kw_only=True):
    """A transcript request: read the answers of a complete lead that closed without any."""

    lead_id: LeadId
    page_id: PageId
    psid: Psid
    requested_at: datetime
    lead_at: datetime


class LeadStage(Struct, frozen=True, kw_only=True):
    """A lead has come to a stage in a CRM; two of a lead with the same `stage_id` are the same."""

    lead_id: LeadId
    page_id: PageId
    psid: Psid
    stage: str
    occurred_at: datetime
    stage_id: str
    source: str = ""


class ConversionOutcome(Struct, frozen=True, kw_only=True):
    """The outcome of a conversion, without its person; the newest of a `conversion_id` is the ledger's entry."""

    conversion_id: str
    lead_id: LeadId
    page_id: PageId
    event: str
    event_at: datetime
    status: ConversionStatus
    occurred_at: datetime
    attempt: int = 0
    error_code: int | None = None
    error_subcode: int | None = None
    reason: str | None = None


def lead_id(page_id: PageId, psid: Psid, opening_event_id: str) -> LeadId:
    """The id of the lead that this signal opened."""
    return LeadId(str(uuid5(_NAMESPACE, f"lead:{page_id}:{psid}:{opening_event_id}")))


def remembered(event_id: str) -> str:
    """An event's id as state keeps it: itself, or a hash in the place of one that repeats a long text."""
    return event_id if len(event_id) <= _ID_MAX else f"sha256:{sha256(event_id.encode()).hexdigest()}"


def is_notice(record: SendFollowUp | FollowUpOutcome) -> bool:
    """Whether it says that a person opted out or in again, and is of no follow-up."""
    return record.rule == NOTICE_RULE


def command_id(lead: LeadId, rule: str, step: int) -> str:
    """The id of the one command that this step of a rule may give for a lead."""
    return str(uuid5(_NAMESPACE, f"command:{lead}:{rule}:{step}"))


def stage_id(lead: LeadId, stage: str) -> str:
    """The id of the one record that says that this lead has come to this stage."""
    return str(uuid5(_NAMESPACE, f"stage:{lead}:{stage}"))


def conversion_id(lead: LeadId, stage: str) -> str:
    """The id of the one conversion that this stage of a lead may give; `stage` is its `stage_id`."""
    return str(uuid5(_NAMESPACE, f"conversion:{lead}:{stage}"))


def notice_id(page_id: PageId, psid: Psid, cause: str) -> str:
    """The id of the record that says whether a person has opted out, by the event or the lead that it follows from."""
    return str(uuid5(_NAMESPACE, f"opt-out:{page_id}:{psid}:{cause}"))
