"""The body of a delivery, and its signature as a receiver verifies it."""

import json
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from messenger.events import Ad, Answer
from schemas.personal import MASK
from sinks.deliver.destination import Destination
from sinks.deliver.payload import (
    Message,
    headers_of,
    lead_webhook_id,
    message_of_erasure,
    message_of_lead,
    message_of_outcome,
    names_in,
    outcome_webhook_id,
)
from tests.builders import NOON, a_lead
from tests.receiver import SECRET
from tests.standard_webhooks import Forged, verify
from tests.unit.sinks.outcomes import an_outcome

OLD = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"


def a_destination(**fields: Any) -> Destination:
    return Destination(**{"name": "crm", "url": "https://crm.example.com", "secrets": (SECRET,), **fields})


def body_of(message: Message) -> Any:
    return json.loads(message.body)


def test_the_sample_of_the_specification_is_verified() -> None:
    """So that the verifier of these tests is right itself."""
    headers = {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }

    assert verify(SECRET, headers, b'{"test": 2432232314}', 1614265330) == "msg_p5jXN8AQM9LWM0D4loKWxJek"
    for changed in ({"webhook-id": "msg_other"}, {"webhook-timestamp": "1614265331"}, {"webhook-signature": "v1,AAAA"}):
        with pytest.raises(Forged):
            verify(SECRET, headers | changed, b'{"test": 2432232314}', 1614265330)
    with pytest.raises(Forged):
        verify(SECRET, headers, b'{"test": 2432232314}', 1614265330 + 301)


@given(st.text(st.characters(exclude_categories=["Cs"])), st.datetimes(min_value=NOON.replace(tzinfo=None)))
def test_every_signature_is_accepted(answer: str, at: Any) -> None:
    lead = a_lead(answers=(Answer("What?", answer),))
    message = message_of_lead(a_destination(pii=True), lead)
    moment = at.replace(tzinfo=NOON.tzinfo)

    headers = headers_of(a_destination(), message, moment)

    assert verify(SECRET, headers, message.body.encode(), moment.timestamp()) == lead_webhook_id(lead)
    assert body_of(message)["data"]["answers"] == [{"question": "What?", "answer": answer}]


def test_while_secrets_are_rotated_each_of_them_signs() -> None:
    message = message_of_lead(a_destination(), a_lead())
    headers = headers_of(a_destination(secrets=(SECRET, OLD)), message, NOON)

    for secret in (SECRET, OLD):
        assert verify(secret, headers, message.body.encode(), NOON.timestamp()) == message.webhook_id


def test_the_id_is_of_the_lead_and_its_revision() -> None:
    first, second = a_lead(revision=1), a_lead(revision=2)

    assert lead_webhook_id(first) == lead_webhook_id(a_lead(revision=1, updated_at=NOON + timedelta(days=1)))
    assert len({lead_webhook_id(first), lead_webhook_id(second), lead_webhook_id(a_lead(lead_id="other"))}) == 3
    assert len({outcome_webhook_id(an_outcome("c", status)) for status in ("sent", "delivered", "read")}) == 3


def test_an_id_has_nothing_that_a_header_cannot_have() -> None:
    hostile = "a.b\r\nx: y" + "ü" * 100

    for webhook_id in (lead_webhook_id(a_lead(lead_id=hostile)), outcome_webhook_id(an_outcome(hostile, "sent"))):
        assert webhook_id.isascii()
        assert set(webhook_id) <= set("abcdefghijklmnopqrstuvwxyz_0123456789")


def test_headers_of_the_user_come_along_and_cannot_replace_ours() -> None:
    headers = headers_of(
        a_destination(headers={"Authorization": "Bearer x", "Content-Type": "text/json"}), Message("i", "{}"), NOON
    )

    assert headers["Authorization"] == "Bearer x"
    assert headers["Content-Type"] == "text/json"
    assert headers["webhook-id"] == "i"


def test_a_record_has_every_field_by_its_name() -> None:
    event = body_of(message_of_lead(a_destination(pii=True), a_lead(ad=Ad("7", "Summer", None, None))))

    assert event["type"] == "lead.revised"
    assert event["timestamp"] == "2026-03-02T12:00:00Z"
    assert set(event["data"]) == set(a_lead().__struct_fields__)
    assert event["data"]["ad"]["ad_title"] == "Summer"


def test_personal_fields_are_masked_in_their_own_shape() -> None:
    data = body_of(message_of_lead(a_destination(), a_lead(summary_text="Lead summary: …")))["data"]
    outcome = body_of(message_of_outcome(a_destination(), an_outcome("c", "sent")))["data"]

    assert data["psid"] == data["summary_text"] == outcome["psid"] == MASK
    assert {answer["question"] for answer in data["answers"]} == {MASK}
    assert body_of(message_of_lead(a_destination(), a_lead(summary_text=None)))["data"]["summary_text"] is None


def test_a_template_is_filled_and_cannot_be_broken_out_of() -> None:
    template = {
        "text": "{answers[City?]|?} by {ad.ad_title|an ad}",
        "revision": "{revision}",
        "answers": "{answers}",
        "ad": "{ad}",
        "none": "{summary_text}",
        "nested": [{"page": "Page {page_id}, {closed}"}, 5, True, None],
    }
    lead = a_lead(answers=(Answer("City?", 'Bern", "admin": "1\n{lead_id}'),), ad=None, revision=3, closed=True)

    filled = body_of(message_of_lead(a_destination(pii=True, body=template), lead))

    assert filled == {
        "text": 'Bern", "admin": "1\n{lead_id} by an ad',
        "revision": 3,
        "answers": [{"question": "City?", "answer": 'Bern", "admin": "1\n{lead_id}'}],
        "ad": None,
        "none": None,
        "nested": [{"page": f"Page {lead.page_id}, true"}, 5, True, None],
    }


def test_the_names_in_a_template_are_known_before_it_is_used() -> None:
    assert set(names_in({"a": ["{lead_id} {ad.ref|x}", {"b": "{answers[Q?]}"}], "c": 1})) == {
        "lead_id",
        "ad.ref",
        "answers",
    }
    with pytest.raises(ValueError, match="placeholders are"):
        list(names_in({"a": "{Lead}"}))


def test_an_erasure_names_the_lead_alone() -> None:
    event = body_of(message_of_erasure(a_destination(pii=True), "l1", NOON))
    own = body_of(message_of_erasure(a_destination(erased={"text": "delete {lead_id}"}), "l1", NOON))

    assert event["type"] == "lead.erased"
    assert event["data"] == {"lead_id": "l1"}
    assert own == {"text": "delete l1"}
