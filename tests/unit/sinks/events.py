"""One line to a platform event about the person whom the sinks' tests write to."""

from datetime import datetime
from typing import Any

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

_SAID: dict[str, Any] = {
    "event_id": "e",
    "page_id": PAGE,
    "psid": Psid("7001"),
    "event_at": NOON,
    "received_at": NOON,
    "origin": Origin("messenger-webhooks", 0, 0),
}


def a_handover(*, new: AppId) -> HandoverReceived:
    return HandoverReceived(**_SAID, previous_owner_app_id=INBOX, new_owner_app_id=new)


def a_take(*, new: AppId) -> ThreadControlTaken:
    return ThreadControlTaken(**_SAID, previous_owner_app_id=INBOX, new_owner_app_id=new)


def a_policy(action: str) -> PolicyEnforced:
    return PolicyEnforced(**{**_SAID, "psid": None}, action=action)


OUR_APP = AppId("2262510160704936")


def an_echo(mid: str = "m_1", *, metadata: str | None = "c1", app_id: AppId | None = OUR_APP) -> EchoReceived:
    return EchoReceived(**_SAID, mid=mid, app_id=app_id, metadata=metadata)


def a_reply(at: datetime = NOON) -> MessageReceived:
    return MessageReceived(**{**_SAID, "event_at": at}, mid="m_reply", text="hello")


def a_delivery(*mids: str, watermark: datetime = NOON) -> DeliveryReceived:
    return DeliveryReceived(**_SAID, watermark=watermark, mids=mids)


def a_read(watermark: datetime = NOON) -> ReadReceived:
    return ReadReceived(**_SAID, watermark=watermark)
