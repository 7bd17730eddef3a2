"""One line to a platform event about the person whom the sinks' tests write to."""

from datetime import datetime, timedelta
from typing import Any

from leads.facts import PersonErased
from messenger.events import (
    AppId,
    DeliveryReceived,
    EchoReceived,
    HandoverReceived,
    MessageReceived,
    Origin,
    PolicyEnforced,
    Psid,
    ReadReceived,
    ThreadControlTaken,
)
from tests.unit.sinks.fakes import INBOX, NOON, PAGE

# When Meta's webhooks come in: after the commands of `a_command` were decided.
SOON = NOON + timedelta(seconds=1)
_SAID: dict[str, Any] = {
    "event_id": "e",
    "page_id": PAGE,
    "psid": Psid("7001"),
    "event_at": NOON,
    "received_at": SOON,
    "origin": Origin("messenger-webhooks", 0, 0),
}


def a_handover(*, new: AppId) -> HandoverReceived:
    return HandoverReceived(**_SAID, previous_owner_app_id=INBOX, new_owner_app_id=new)


def a_take(*, new: AppId) -> ThreadControlTaken:
    return ThreadControlTaken(**_SAID, previous_owner_app_id=INBOX, new_owner_app_id=new)


def a_policy(action: str, received_at: datetime = SOON) -> PolicyEnforced:
    facts = {**_SAID, "psid": None, "event_at": received_at, "received_at": received_at}
    return PolicyEnforced(**facts, action=action)


OUR_APP = AppId("2262510160704936")


def an_echo(mid: str = "m_1", *, metadata: str | None = "c1", app_id: AppId | None = OUR_APP) -> EchoReceived:
    return EchoReceived(**_SAID, mid=mid, app_id=app_id, metadata=metadata)


def a_reply(received_at: datetime = SOON, text: str = "hello") -> MessageReceived:
    return MessageReceived(**{**_SAID, "received_at": received_at}, mid="m_reply", text=text)


def a_delivery(*mids: str, watermark: datetime = NOON) -> DeliveryReceived:
    return DeliveryReceived(**_SAID, watermark=watermark, mids=mids)


def a_read(watermark: datetime = NOON) -> ReadReceived:
    return ReadReceived(**_SAID, watermark=watermark)


def an_erasure(at: datetime = NOON) -> PersonErased:
    return PersonErased(**{**_SAID, "event_at": at, "received_at": at})
