"""Platform events: an item of a webhook, parsed, with the time it happened and the time we received it.

Ids are strings, as Meta's prose has them; `event_at` is Meta's stamp and `received_at` the raw record's Kafka
timestamp, both in UTC with millisecond precision. `event_id` is equal for two deliveries of the same event, even when
Meta stamps the copies differently.
"""

from datetime import datetime
from typing import Literal, NewType

from msgspec import Struct

PageId = NewType("PageId", str)
Psid = NewType("Psid", str)
AppId = NewType("AppId", str)

LeadOutcome = Literal["complete", "incomplete"]


class Compact(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A record that is written as an array of its fields, where its names would take more room than its values.

    A reader takes the default of a field that is missing at the end, and refuses an array with more fields.
    """


class Origin(Struct, frozen=True):
    """The raw record of an event, and the position of its item in the body.

    A fact of ours is its own raw record; one that is not in the log yet has offset -1.
    """

    topic: str
    partition: int
    offset: int
    item: int = 0


class Answer(Compact, frozen=True):
    question: str
    answer: str


class Ad(Compact, frozen=True):
    """The ad of a referral; a field is None when Meta left it out."""

    ad_id: str | None = None
    ad_title: str | None = None
    post_id: str | None = None
    ref: str | None = None


class Event(Struct, frozen=True, kw_only=True, tag_field="kind"):
    """The fields of every event; the tag of its class is its `kind`.

    `psid` is None only for an event about a Page (`PolicyEnforced`).
    """

    event_id: str
    page_id: PageId
    psid: Psid | None
    event_at: datetime
    received_at: datetime
    origin: Origin


class HandoverReceived(Event, frozen=True, kw_only=True, tag="handover"):
    """`pass_thread_control`: thread control went from one app to another; None is an idle thread."""

    previous_owner_app_id: AppId | None
    new_owner_app_id: AppId | None
    metadata: str | None = None


class ThreadControlTaken(Event, frozen=True, kw_only=True, tag="thread_control_taken"):
    """`take_thread_control`: an app, often the Page Inbox, took the thread."""

    previous_owner_app_id: AppId | None
    new_owner_app_id: AppId | None
    metadata: str | None = None


class ThreadControlRequested(Event, frozen=True, kw_only=True, tag="thread_control_requested"):
    """`request_thread_control`: another app asks for the thread; its owner has not changed."""

    requested_owner_app_id: AppId | None
    metadata: str | None = None


class LeadReferralReceived(Event, frozen=True, kw_only=True, tag="lead_referral"):
    """`referral` of type LEAD_COMPLETE or LEAD_INCOMPLETE: structured answers and the ad.

    `standby` when another app has the thread.
    """

    outcome: LeadOutcome
    answers: tuple[Answer, ...]
    ad: Ad
    standby: bool = False


class SummaryReceived(Event, frozen=True, kw_only=True, tag="summary"):
    """The summary message: a synthetic message whose text holds questions and answers.

    `standby` when another app has the thread.
    """

    mid: str
    text: str
    outcome: LeadOutcome
    standby: bool = False


class MessageReceived(Event, frozen=True, kw_only=True, tag="message"):
    """The person wrote; `standby` when another app has the thread. `text` is None for attachments alone.

    Of a quick reply that they chose, `text` is the title.
    """

    mid: str
    text: str | None = None
    payload: str | None = None
    standby: bool = False


class PostbackReceived(Event, frozen=True, kw_only=True, tag="postback"):
    """The person pressed a button; the payload goes only to the app that sent it."""

    mid: str | None
    title: str | None = None
    payload: str | None = None
    standby: bool = False


class ReactionReceived(Event, frozen=True, kw_only=True, tag="reaction"):
    """The person reacted to a message, or (`action` "unreact") took the reaction back."""

    mid: str
    action: str
    standby: bool = False


class ReferralReceived(Event, frozen=True, kw_only=True, tag="referral"):
    """The person came from an ad or a link that is not the end of a lead flow."""

    ad: Ad


class EchoReceived(Event, frozen=True, kw_only=True, tag="echo"):
    """The Page sent a message, by the app `app_id`; `metadata` is the sender's."""

    mid: str
    app_id: AppId | None
    metadata: str | None = None
    standby: bool = False


class DeliveryReceived(Event, frozen=True, kw_only=True, tag="delivery"):
    """All messages up to `watermark` reached the person; `mids` names some of them, when Meta does."""

    watermark: datetime
    mids: tuple[str, ...] = ()


class ReadReceived(Event, frozen=True, kw_only=True, tag="read"):
    """The person read all messages up to `watermark`."""

    watermark: datetime


class PolicyEnforced(Event, frozen=True, kw_only=True, tag="policy"):
    """Meta warned, blocked or unblocked the Page (`action`); `reason` is absent on unblock."""

    action: str
    reason: str | None = None


PlatformEvent = (
    HandoverReceived
    | ThreadControlTaken
    | ThreadControlRequested
    | LeadReferralReceived
    | SummaryReceived
    | MessageReceived
    | PostbackReceived
    | ReactionReceived
    | ReferralReceived
    | EchoReceived
    | DeliveryReceived
    | ReadReceived
    | PolicyEnforced
)


def person_key(page_id: str, psid: str) -> str:
    """The key of every topic up to the join; all records of one person share it."""
    return f"{page_id}:{psid}"
