"""Every builder gives, from a sample's values, the sample itself."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from importlib import resources

import pytest

from messenger.events import Ad, Answer, AppId, PageId, Psid
from messenger.limits import PAGE_INBOX_APP_ID
from runtime.clock import from_millis
from simulator import payloads
from simulator.payloads import Conversation, Json

_EXAMPLES = resources.files("schemas") / "examples" / "messenger-webhooks" / "v1"
_PAGE = PageId("102030405060708")
_WHO = Conversation(_PAGE, Psid("7001002003004005"), entry_id=_PAGE)
_OURS = AppId("900100200300400")
_AT = from_millis(1770000000123)
_SENT = from_millis(1770000000500)
_AD = Ad("120210000000000001", "Spring demo ad", "559200000000001")
_PHOTO = "https://scontent.example.test/p.jpg"
_ANSWERS = (Answer("Are you interested in a demo?", "Yes"), Answer("What city is your store in?", "Lyon"))


def _referral(outcome: str, answer: str) -> Json:
    return payloads.lead_referral(
        _WHO,
        "complete" if outcome == "complete" else "incomplete",
        ad=_AD,
        photo_url=_PHOTO,
        answers=[Answer("Are you interested in a demo?", answer)],
        at=from_millis(1770000064000),
        sent_at=from_millis(1770000113475),
    )


_BUILT: dict[str, Callable[[], Json]] = {
    "lead_handover_complete": lambda: payloads.lead_handover(_WHO, "complete", new_owner=_OURS, at=_AT, sent_at=_AT),
    "lead_handover_incomplete": lambda: payloads.lead_handover(
        _WHO, "incomplete", new_owner=_OURS, at=_AT, sent_at=_SENT
    ),
    "lead_referral_lead_complete": lambda: _referral("complete", "Yes"),
    "lead_referral_lead_incomplete": lambda: _referral("incomplete", "Not now"),
    "lead_summary_message": lambda: payloads.summary(
        _WHO,
        payloads.summary_text(_ANSWERS),
        mid="m_SUMMARY0001",
        hop_app_id=AppId("900100200300401"),
        at=from_millis(1770000060000),
        sent_at=from_millis(1770000236608),
    ),
    "lead_summary_message_entry_id_differs": lambda: payloads.summary(
        Conversation(_WHO.page_id, _WHO.psid, entry_id="908070605040302"),
        "Lead summary:\nQ1?: A1",
        mid="m_SUMMARY0002",
        hop_app_id=AppId("900100200300401"),
        at=from_millis(1770000060000),
        sent_at=_SENT,
    ),
    "handover_take_by_inbox": lambda: payloads.control_taken(
        _WHO, previous_owner=_OURS, new_owner=PAGE_INBOX_APP_ID, at=_AT, sent_at=_SENT
    ),
    "message_text": lambda: payloads.message(_WHO, "hello, world!", mid="m_TXT1", at=_AT, sent_at=_SENT),
    "standby_message": lambda: payloads.message(
        _WHO, "I talk to another app", mid="m_SB1", at=_AT, sent_at=_SENT, standby=True
    ),
    "message_edit": lambda: payloads.message_edit(_WHO, "hello, new world", mid="m_TXT1", at=_AT, sent_at=_SENT),
    "echo_own_app": lambda: payloads.echo(
        _WHO,
        "Thanks!",
        mid="m_OUT1",
        app_id=_OURS,
        at=from_millis(1770000001123),
        sent_at=_SENT,
        metadata="cmd:3f0c",
    ),
    "echo_page_inbox_human": lambda: payloads.echo(
        _WHO, "Hi, Ana here", mid="m_OUT2", app_id=PAGE_INBOX_APP_ID, at=from_millis(1770000001123), sent_at=_SENT
    ),
    "delivery": lambda: payloads.delivered(_WHO, mid="m_OUT1", watermark=from_millis(1770000002000), sent_at=_SENT),
    "read": lambda: payloads.read(_WHO, watermark=from_millis(1770000002000), at=_AT, sent_at=_SENT),
    "reaction": lambda: payloads.reaction(_WHO, mid="m_OUT1", at=_AT, sent_at=_SENT),
    "optin_notification_messages": lambda: payloads.optin(
        _WHO, token="tok", expires_at=from_millis(1790000000000), at=_AT, sent_at=_SENT
    ),
    "policy_enforcement_block": lambda: payloads.policy_enforcement(
        _PAGE, _PAGE, action="block", reason="spam", at=_AT, sent_at=_SENT
    ),
    "leadgen_change": lambda: payloads.leadgen_changes(
        _PAGE, [123123123123, 123123123124], at=from_millis(1770000000000)
    ),
}


@pytest.mark.parametrize("case", _BUILT)
def test_built_webhook_equals_the_documented_sample(case: str) -> None:
    sample = json.loads((_EXAMPLES / f"{case}.json").read_bytes())

    assert json.loads(payloads.body([_BUILT[case]()])) == sample


def test_body_is_escaped_as_meta_signs_it() -> None:
    body = payloads.body([{"text": "äöå 👍 https://x"}])

    assert body == rb'{"object":"page","entry":[{"text":"\u00e4\u00f6\u00e5 \ud83d\udc4d https:\/\/x"}]}'


def test_copy_of_a_message_may_have_another_stamp() -> None:
    entry = payloads.message(_WHO, "hello", mid="m_1", at=_AT, sent_at=_SENT)

    copy = payloads.resent(entry, _SENT + timedelta(seconds=9), restamped=_AT + timedelta(seconds=5))

    assert json.loads(payloads.body([copy]))["entry"] == [
        {
            "id": _PAGE,
            "time": 1770000009500,
            "messaging": [{**_WHO.from_person, "timestamp": 1770000005123, "message": {"mid": "m_1", "text": "hello"}}],
        }
    ]


def test_neighbours_of_one_page_share_an_entry_and_others_do_not() -> None:
    one, other = (payloads.message(_WHO, text, mid=text, at=_AT, sent_at=_SENT) for text in ("one", "other"))
    handover = payloads.lead_handover(_WHO, "complete", new_owner=_OURS, at=_AT, sent_at=_SENT)
    standby = payloads.message(_WHO, "aside", mid="aside", at=_AT, sent_at=_SENT, standby=True)

    entries = payloads.merged([one, other, handover, standby])

    assert [len(entry.keys() & {"hop_context", "standby"}) for entry in entries] == [0, 1, 1]
    assert json.loads(payloads.body(entries[:1]))["entry"][0]["messaging"] == [
        json.loads(payloads.body([entry]))["entry"][0]["messaging"][0] for entry in (one, other)
    ]


def test_product_page_samples_are_the_pages_bytes() -> None:
    handover, summary = (json.loads(body) for body in payloads.product_page_bodies())

    assert handover["entry"][0]["messaging"][0]["pass_thread_control"]["new_owner_app_id"] == 2262510160704936
    assert summary["entry"][0]["messaging"][0]["timestamp"] == 1661209328


def test_seconds_drop_what_is_less() -> None:
    assert payloads.seconds(datetime(2026, 2, 2, 2, 40, 0, 999000, tzinfo=UTC)) == 1770000000
