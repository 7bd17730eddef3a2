"""Facts of a set-up in answers that are not the plain ones of the simulator."""

from datetime import UTC, datetime
from typing import Any

import pytest

from messenger.events import AppId, PageId
from messenger.setup import app_subscription, page_subscription, routing_is_on, subscribe_app_request, token_facts
from operations.doctor.verdicts import routing_verdict, skew_verdict

OURS = AppId("900100200300400")


def test_a_subscription_to_something_else_than_pages_is_not_ours() -> None:
    body = {"data": [{"object": "instagram", "active": True, "fields": ["messages"]}]}

    assert app_subscription(body) is None


def test_fields_are_read_with_and_without_their_version() -> None:
    body = {"data": [{"object": "page", "active": True, "fields": ["messages", {"name": "standby"}, 5]}]}

    subscription = app_subscription(body)

    assert subscription is not None
    assert (subscription.fields, subscription.callback_url) == (frozenset({"messages", "standby"}), "")


def test_the_fields_of_another_app_on_the_page_are_not_ours() -> None:
    others: dict[str, Any] = {"id": "5", "subscribed_fields": ["messages"]}

    assert page_subscription({"data": [others]}, OURS) is None
    assert page_subscription({"data": [others, {"id": int(OURS)}]}, OURS) == frozenset()


@pytest.mark.parametrize(
    "body", [{}, {"data": []}, {"data": {"is_valid": "true", "scopes": "all", "expires_at": True}}]
)
def test_an_answer_that_says_nothing_is_no_valid_token(body: dict[str, Any]) -> None:
    facts = token_facts(body)

    assert (facts.is_valid, facts.scopes, facts.expires_at) == (False, frozenset(), None)


def test_a_page_of_which_meta_does_not_say_is_not_taken_for_routed() -> None:
    is_on = routing_is_on({"id": "1"})

    assert is_on is None
    assert routing_verdict(PageId("1"), is_on=is_on).standing == "broken"


def test_an_answer_without_a_date_leaves_the_clock_in_doubt() -> None:
    assert skew_verdict(None, datetime(2026, 5, 5, tzinfo=UTC)).standing == "warning"


def test_an_id_cannot_lead_a_call_elsewhere() -> None:
    assert subscribe_app_request(AppId("1/../2"), "", "", ()).path == "1%2F..%2F2/subscriptions"
