"""Every sample webhook ends in a named place: no file without a row, no row without a file."""

from datetime import UTC, datetime
from importlib.resources import files

import pytest

from messenger.summary import parse_summary
from messenger.webhook import pages_of, parse_delivery
from schemas.codec import KINDS

SAMPLES = files("schemas") / "examples" / "messenger-webhooks" / "v1"

# The kinds of the events, or the reasons for which items are ignored.
ENDS: dict[str, tuple[str, ...]] = {
    "delivery": ("delivery",),
    "echo_on_standby_template": ("echo",),
    "echo_own_app": ("echo",),
    "echo_page_inbox_human": ("echo",),
    "handover_app_roles": ("ignored app_roles",),
    "handover_pass_from_idle_string_ids": ("handover",),
    "handover_request": ("thread_control_requested",),
    "handover_take_by_inbox": ("thread_control_taken",),
    "lead_handover_complete": ("handover",),
    "lead_handover_incomplete": ("handover",),
    "lead_referral_lead_complete": ("lead_referral",),
    "lead_referral_lead_incomplete": ("lead_referral",),
    "lead_summary_message": ("summary",),
    "lead_summary_message_entry_id_differs": ("summary",),
    "leadgen_change": ("ignored instant_form_lead", "ignored instant_form_lead"),
    "message_appointment": ("message",),
    "message_edit": ("ignored message_edit",),
    "message_escaped_text": ("message",),
    "message_from_ad": ("message",),
    "message_image": ("message",),
    "message_post_share": ("message",),
    "message_quick_reply": ("message",),
    "message_reply_to": ("message",),
    "message_sticker_transition": ("message",),
    "message_text": ("message",),
    "messaging_feedback": ("ignored feedback",),
    "optin_notification_messages": ("ignored optin",),
    "policy_enforcement_block": ("policy",),
    "postback_with_referral": ("postback",),
    "product_page_handover": ("handover",),
    "product_page_summary": ("summary",),
    "reaction": ("reaction",),
    "read": ("read",),
    "referral_ad_open_thread": ("referral",),
    "referral_m_me": ("referral",),
    "response_feedback": ("ignored response_feedback",),
    "standby_message": ("message",),
}
PAGE_EVENTS = {"handover_app_roles", "leadgen_change", "policy_enforcement_block"}


def _sample(name: str) -> bytes:
    return (SAMPLES / f"{name}.json").read_bytes()


def _ends(name: str) -> tuple[str, ...]:
    received_at = datetime(2026, 3, 2, tzinfo=UTC)
    parsed = parse_delivery(_sample(name), received_at=received_at, topic="t", partition=0, offset=0)
    kinds = [kind for event in parsed.events for kind, record in KINDS.items() if type(event) is record]
    return (*kinds, *(f"ignored {reason}" for reason in parsed.ignored), *(fault.reason for fault in parsed.faults))


def test_every_file_has_a_row_and_every_row_a_file() -> None:
    assert {path.name for path in SAMPLES.iterdir()} == {f"{name}.json" for name in ENDS}


@pytest.mark.parametrize("name", ENDS)
def test_a_sample_ends_in_its_named_place(name: str) -> None:
    assert _ends(name) == ENDS[name]


@pytest.mark.parametrize("name", ENDS)
def test_a_sample_is_about_one_page(name: str) -> None:
    assert len(pages_of(_sample(name))) == 1


def test_both_webhooks_of_the_product_page_are_about_one_page() -> None:
    """Although their `entry.id` is not the page they were sent to."""
    pages = {pages_of(_sample(name)) for name in ("product_page_handover", "product_page_summary")}

    assert pages == {("542998526103632",)}


def test_the_summary_of_the_product_page_gives_its_answers() -> None:
    received_at = datetime(2026, 3, 2, tzinfo=UTC)
    body = _sample("product_page_summary")
    (event,) = parse_delivery(body, received_at=received_at, topic="t", partition=0, offset=0).events

    answers = parse_summary(getattr(event, "text", ""))

    assert event.event_at == datetime(2022, 8, 22, 23, 2, 8, tzinfo=UTC)
    assert [(pair.question, pair.answer) for pair in answers] == [
        ("Are you interested in becoming a reseller?", "Yes"),
        ("What city is your store located?", "Menlo Park"),
    ]
