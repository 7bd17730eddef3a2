"""What a set-up check can see of the fake: subscriptions, tokens, routing, lead forms, unknown paths."""

import pytest

from simulator.people import FormTexts
from tests.unit.simulator.conftest import OUR_APP, PAGE, Meta, code_of

pytestmark = pytest.mark.anyio


async def test_page_subscription_is_replaced_as_a_whole(meta: Meta) -> None:
    before = (await meta.get(f"/v25.0/{PAGE}/subscribed_apps")).json()["data"][0]["subscribed_fields"]
    await meta.post(f"/v25.0/{PAGE}/subscribed_apps", {"subscribed_fields": "messages,standby"})

    [app] = (await meta.get(f"/v25.0/{PAGE}/subscribed_apps")).json()["data"]

    assert "messaging_handovers" in before
    assert (app["id"], app["subscribed_fields"]) == (OUR_APP, ["messages", "standby"])


async def test_app_subscription_shows_what_was_subscribed(meta: Meta) -> None:
    subscription = {
        "object": "page",
        "callback_url": "https://example.test/",
        "fields": "messages",
        "verify_token": "v",
    }
    assert (await meta.get(f"/{OUR_APP}/subscriptions")).json() == {"data": []}

    await meta.post(f"/{OUR_APP}/subscriptions", subscription)

    [shown] = (await meta.get(f"/{OUR_APP}/subscriptions")).json()["data"]
    assert shown == {
        "object": "page",
        "callback_url": "https://example.test/",
        "active": True,
        "fields": [{"name": "messages", "version": "v25.0"}],
    }


@pytest.mark.parametrize("missing", ["object", "callback_url", "fields", "verify_token"])
async def test_incomplete_app_subscription_is_refused(meta: Meta, missing: str) -> None:
    subscription = {
        "object": "page",
        "callback_url": "https://example.test/",
        "fields": "messages",
        "verify_token": "v",
    }
    del subscription[missing]

    assert code_of(await meta.post(f"/{OUR_APP}/subscriptions", subscription)) == (100, None)


async def test_token_of_a_page_is_valid_and_another_is_not(meta: Meta) -> None:
    meta.configure(page_tokens={PAGE: "good"})

    good = (await meta.get("/debug_token", input_token="good")).json()["data"]
    bad = (await meta.get("/debug_token", input_token="bad")).json()["data"]

    assert (good["is_valid"], good["app_id"], good["profile_id"]) == (True, OUR_APP, PAGE)
    assert (bad["is_valid"], bad["error"]["code"]) == (False, 190)


async def test_feature_status_tells_of_conversation_routing(meta: Meta) -> None:
    response = await meta.get("/v25.0/me", fields="messaging_feature_status")

    assert response.json()["messaging_feature_status"] == {
        "hop_v2": True,
        "msgr_multi_app": True,
        "ig_multi_app": False,
    }


async def test_lead_forms_list_the_questions(meta: Meta) -> None:
    meta.configure(lead_forms={PAGE: FormTexts(("Interested?", "Where?"), "Thanks!")})

    [form] = (await meta.get(f"/v25.0/{PAGE}/messenger_lead_forms")).json()["data"]

    assert [step["message"] for step in form["step_list"]] == ["Interested?", "Where?", "Thanks!"]
    assert [step["step_type"] for step in form["step_list"]] == ["QUESTION", "QUESTION", "CONFIRMATION"]


@pytest.mark.parametrize("path", ["/", "/v25.0", "/v25.0/me/accounts", "/a/b/c"])
async def test_unknown_path_is_refused(meta: Meta, path: str) -> None:
    assert code_of(await meta.get(path)) == (2500, None)
