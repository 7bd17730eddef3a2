"""One line to a valid event, lead or command: tests say only what they are about."""

import base64
import hashlib
import hmac
import json
from datetime import UTC, datetime, timedelta
from itertools import count

from msgspec.structs import replace

from leads.erasures import Erasures, erasure_record, salt_record
from leads.facts import LeadPromoted, LeadRecovered, PersonErased
from leads.records import Lead, LeadId, LeadState
from messenger.events import (
    Ad,
    Answer,
    AppId,
    EchoReceived,
    HandoverReceived,
    LeadOutcome,
    LeadReferralReceived,
    MessageReceived,
    Origin,
    PageId,
    PolicyEnforced,
    Psid,
    SummaryReceived,
    ThreadControlTaken,
)
from messenger.limits import LEADGEN_APP_ID

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
PAGE = PageId("542998526103632")
PERSON = Psid("5794982867201265")
TARGET_APP = AppId("2262510160704936")
INBOX = AppId("263902037430900")
CITY = Answer("What city is your store located?", "Menlo Park")
RESELLER = Answer("Are you interested in becoming a reseller?", "Yes")
SUMMARY_TEXT = f"Lead summary:\n{RESELLER.question}: {RESELLER.answer}\n{CITY.question}: {CITY.answer}"
SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)

_offsets = count()


def an_origin(offset: int | None = None, partition: int = 0) -> Origin:
    return Origin("messenger-webhooks", partition, next(_offsets) if offset is None else offset)


def a_handover(
    at: datetime = NOON,
    *,
    received_at: datetime | None = None,
    outcome: LeadOutcome = "complete",
    metadata: str | None = None,
    previous: AppId | None = LEADGEN_APP_ID,
    new: AppId | None = TARGET_APP,
    origin: Origin | None = None,
) -> HandoverReceived:
    tag = metadata if metadata is not None else f"messenger_lead_gen_{outcome}"
    return HandoverReceived(
        event_id=f"handover:{at.timestamp():.3f}:{previous}:{new}:{tag}",
        page_id=PAGE,
        psid=PERSON,
        event_at=at,
        received_at=received_at or at,
        origin=origin or an_origin(),
        previous_owner_app_id=previous,
        new_owner_app_id=new,
        metadata=tag,
    )


def a_referral(
    at: datetime = NOON,
    *,
    received_at: datetime | None = None,
    outcome: LeadOutcome = "complete",
    answers: tuple[Answer, ...] = (RESELLER, CITY),
    ad_id: str = "120210000000000001",
    origin: Origin | None = None,
) -> LeadReferralReceived:
    return LeadReferralReceived(
        event_id=f"lead_referral:{at.timestamp():.3f}:{ad_id}:{outcome}",
        page_id=PAGE,
        psid=PERSON,
        event_at=at,
        received_at=received_at or at,
        origin=origin or an_origin(),
        outcome=outcome,
        answers=answers,
        ad=Ad(ad_id, "Spring demo ad", "559200000000001"),
    )


def a_summary(
    at: datetime = NOON,
    *,
    received_at: datetime | None = None,
    mid: str = "m_SUMMARY1",
    text: str = SUMMARY_TEXT,
    origin: Origin | None = None,
) -> SummaryReceived:
    return SummaryReceived(
        event_id=f"summary:{mid}",
        page_id=PAGE,
        psid=PERSON,
        event_at=at,
        received_at=received_at or at,
        origin=origin or an_origin(),
        mid=mid,
        text=text,
        outcome="complete",
    )


def a_recovery(
    at: datetime = NOON,
    *,
    received_at: datetime | None = None,
    outcome: LeadOutcome = "complete",
    answers: tuple[Answer, ...] = (RESELLER, CITY),
    last_user_message_at: datetime | None = None,
    last_page_message_at: datetime | None = None,
    mid: str = "m_ANSWER1",
) -> LeadRecovered:
    """What a backfill writes of a flow whose last answer came at a time, by default two hours later."""
    return LeadRecovered(
        event_id=f"recovered:{outcome}:{mid}",
        page_id=PAGE,
        psid=PERSON,
        event_at=at,
        received_at=received_at or at + timedelta(hours=2),
        origin=Origin("messenger-events", 0, next(_offsets)),
        outcome=outcome,
        answers=answers,
        last_user_message_at=last_user_message_at or at,
        last_page_message_at=last_page_message_at,
        provenance="backfill of 2026-03-02T14:00:00Z",
    )


def a_message(
    at: datetime = NOON, *, received_at: datetime | None = None, mid: str = "m_1", text: str = "hello"
) -> MessageReceived:
    return MessageReceived(
        event_id=f"message:{mid}",
        page_id=PAGE,
        psid=PERSON,
        event_at=at,
        received_at=received_at or at,
        origin=an_origin(),
        mid=mid,
        text=text,
    )


def an_echo(at: datetime = NOON, *, app_id: AppId | None = INBOX, mid: str = "m_out_1") -> EchoReceived:
    return EchoReceived(
        event_id=f"echo:{mid}",
        page_id=PAGE,
        psid=PERSON,
        event_at=at,
        received_at=at,
        origin=an_origin(),
        mid=mid,
        app_id=app_id,
    )


def a_take(at: datetime = NOON, *, by: AppId = INBOX) -> ThreadControlTaken:
    return ThreadControlTaken(
        event_id=f"thread_control_taken:{at.timestamp():.3f}:{by}",
        page_id=PAGE,
        psid=PERSON,
        event_at=at,
        received_at=at,
        origin=an_origin(),
        previous_owner_app_id=TARGET_APP,
        new_owner_app_id=by,
    )


def a_policy(action: str, at: datetime = NOON, *, origin: Origin | None = None) -> PolicyEnforced:
    return PolicyEnforced(
        event_id=f"policy:{at.timestamp():.3f}:{action}",
        page_id=PAGE,
        psid=None,
        event_at=at,
        received_at=at,
        origin=origin or an_origin(),
        action=action,
    )


def a_lead(**values: object) -> Lead:
    lead = Lead(
        lead_id=LeadId("8d6c0c1e-0000-5000-8000-000000000001"),
        revision=1,
        page_id=PAGE,
        psid=PERSON,
        outcome="complete",
        answers=(RESELLER, CITY),
        answers_source="referral",
        handover_at=NOON,
        first_seen_at=NOON,
        updated_at=NOON,
        messaging_window_closes_at=NOON + timedelta(hours=24),
    )
    return replace(lead, **values)


def an_erasure(at: datetime = NOON, *, partition: int = 0) -> PersonErased:
    return PersonErased(
        event_id=f"erased:{at.timestamp():.3f}",
        page_id=PAGE,
        psid=PERSON,
        event_at=at,
        received_at=at,
        origin=Origin("erasures", partition, next(_offsets)),
    )


def a_register(until: datetime = NOON, psid: Psid = PERSON, page_id: PageId = PAGE) -> Erasures:
    """An erasure register in which one person was erased at a time."""
    salt, register = b"s" * 32, Erasures()
    register.note(*salt_record(salt))
    register.note(*erasure_record(salt, page_id, psid, until))
    return register


def a_signed_request(secret: str, user_id: str = "218471", *, at: datetime, **more: object) -> str:
    """What Meta posts to have the data of an app-scoped id deleted."""
    payload = {"algorithm": "HMAC-SHA256", "issued_at": int(at.timestamp()), "user_id": user_id, **more}
    encoded = base64.urlsafe_b64encode(json.dumps(payload).encode()).rstrip(b"=")
    signature = base64.urlsafe_b64encode(hmac.digest(secret.encode(), encoded, hashlib.sha256)).rstrip(b"=")
    return f"{signature.decode()}.{encoded.decode()}"


def a_promotion() -> LeadPromoted:
    return LeadPromoted(
        event_id="lead_promoted:1:2",
        page_id=PAGE,
        psid=PERSON,
        event_at=NOON,
        received_at=NOON,
        origin=an_origin(7),
        state=LeadState(a_lead(), ("handover:1",), NOON, (RESELLER,), (CITY,), ("thanks",)),
        replaces=2,
        provenance="fix-7",
    )
