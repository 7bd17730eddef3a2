"""The fake Send API: who may get what when, and what an effect leaves behind."""

import json
from datetime import timedelta

import pytest

from messenger.client import GraphClient
from messenger.events import AppId
from messenger.graph import send_request
from messenger.limits import LEADGEN_APP_ID, PAGE_INBOX_APP_ID
from messenger.signature import appsecret_proof
from tests.unit.simulator.conftest import NOW, OTHER_APP, OUR_APP, PAGE, PSID, Meta, code_of

pytestmark = pytest.mark.anyio


async def test_message_inside_window_in_own_thread_is_sent(meta: Meta) -> None:
    response = await meta.send({"text": "Thanks!", "metadata": "command-1"})

    [sent] = meta.world.sends.messages
    assert response.status_code == 200
    assert response.json() == {"recipient_id": PSID, "message_id": sent.mid}
    assert (sent.text, sent.metadata, sent.at) == ("Thanks!", "command-1", NOW)


async def test_our_own_client_is_understood(meta: Meta) -> None:
    button = {"type": "web_url", "title": "Show me", "url": "https://example.test/", "payload": None}
    client = GraphClient("http://graph.test", "v25.0", meta.http, "s3cret")
    meta.configure(require_proof=True)

    plain = await client.call(send_request(PAGE, PSID, {"text": "Hi"}, metadata="one"), "t0ken")
    buttons = await client.call(send_request(PAGE, PSID, {"text": "Hi", "buttons": [button]}, metadata="two"), "t0ken")

    assert [plain.body["message_id"], buttons.body["message_id"]] == [
        message.mid for message in meta.world.sends.messages
    ]


async def test_form_fields_of_metas_curl_example_are_understood(meta: Meta) -> None:
    fields = {
        "recipient": json.dumps({"id": PSID}),
        "messaging_type": "RESPONSE",
        "message": json.dumps({"text": "Thanks!"}),
        "access_token": "t0ken",
    }

    response = await meta.http.post(f"/v25.0/{PAGE}/messages", data=fields)

    assert response.status_code == 200


@pytest.mark.parametrize(
    ("age", "allowed"), [(timedelta(hours=24, milliseconds=-1), True), (timedelta(hours=24), False)]
)
async def test_window_closes_24_hours_after_the_last_message(meta: Meta, age: timedelta, *, allowed: bool) -> None:
    meta.now = NOW - timedelta(hours=1) + age

    response = await meta.send()

    assert (response.status_code == 200) is allowed
    assert allowed or code_of(response) == (10, 2018278)
    assert len(meta.world.sends.messages) == int(allowed)


@pytest.mark.parametrize(
    ("owner", "refusal"),
    [
        (LEADGEN_APP_ID, (10, 2018321)),
        (PAGE_INBOX_APP_ID, (10, 2018300)),
        (OTHER_APP, (10, 2018300)),
    ],
)
async def test_thread_of_another_app_is_refused(meta: Meta, owner: AppId, refusal: tuple[int, int]) -> None:
    meta.know(owner=owner)

    response = await meta.send()

    assert code_of(response) == refusal
    assert meta.world.sends.messages == []


async def test_idle_thread_takes_a_message(meta: Meta) -> None:
    meta.know(owner=None)

    assert (await meta.send()).status_code == 200


async def test_control_of_another_app_runs_out_after_a_day(meta: Meta) -> None:
    meta.know(owner=OTHER_APP)
    meta.now = NOW + timedelta(days=1)
    meta.world.threads.find(PAGE, PSID).last_user_message_at = meta.now  # type: ignore[union-attr]

    assert (await meta.send()).status_code == 200


async def test_blocked_page_sends_nothing_until_unblocked(meta: Meta) -> None:
    await meta.http.put(f"/_simulator/pages/{PAGE}", json={"blocked": True})
    blocked = await meta.send()
    await meta.http.put(f"/_simulator/pages/{PAGE}", json={"blocked": False})

    assert code_of(blocked) == (10, 1893063)
    assert (await meta.send()).status_code == 200


async def test_unavailable_person_is_refused(meta: Meta) -> None:
    meta.know(owner=OUR_APP, unavailable=True)

    assert code_of(await meta.send()) == (551, 1545041)


async def test_unknown_person_is_refused(meta: Meta) -> None:
    assert code_of(await meta.send(recipient={"id": "1"})) == (100, 2018001)


_REPLY = {"content_type": "text", "title": "Yes", "payload": "YES"}
_BUTTON = {"type": "postback", "title": "Yes", "payload": "YES"}


def _template(**changes: object) -> dict[str, object]:
    payload = {"template_type": "button", "text": "Well?", "buttons": [_BUTTON], **changes}
    return {"attachment": {"type": "template", "payload": payload}}


@pytest.mark.parametrize(
    "message",
    [
        {"text": "x" * 1999},
        {"text": "x", "metadata": "m" * 999},
        {"text": "x", "quick_replies": [_REPLY] * 13},
        {"text": "x", "quick_replies": [{**_REPLY, "title": "t" * 20, "payload": "p" * 1000}]},
        _template(text="x" * 640, buttons=[_BUTTON] * 3),
        _template(buttons=[{"type": "web_url", "title": "t" * 20, "url": "https://example.test/"}]),
    ],
)
async def test_message_at_metas_limits_is_sent(meta: Meta, message: dict[str, object]) -> None:
    assert (await meta.send(message)).status_code == 200


@pytest.mark.parametrize(
    "message",
    [
        {"text": ""},
        {"text": 7},
        {"text": "x" * 2000},
        {"text": "😀" * 1000},
        {"text": "x", "metadata": "m" * 1000},
        {"text": "x", "unknown": 1},
        {"text": "x", "quick_replies": []},
        {"text": "x", "quick_replies": [_REPLY] * 14},
        {"text": "x", "quick_replies": ["Yes"]},
        {"text": "x", "quick_replies": [{**_REPLY, "content_type": "gif"}]},
        {"text": "x", "quick_replies": [{**_REPLY, "title": "t" * 21}]},
        {"text": "x", "quick_replies": [{**_REPLY, "payload": "p" * 1001}]},
        {"text": "x", **_template()},
        _template(text="x" * 641),
        _template(buttons=[_BUTTON] * 4),
        _template(buttons=[{**_BUTTON, "title": "t" * 21}]),
        _template(buttons=[{**_BUTTON, "payload": "p" * 1001}]),
        _template(buttons=[{"type": "web_url", "title": "x"}]),
        _template(buttons=[{**_BUTTON, "type": "call"}]),
        _template(template_type="generic"),
        {"attachment": "oops"},
    ],
)
async def test_message_beyond_metas_limits_is_code_100(meta: Meta, message: dict[str, object]) -> None:
    response = await meta.send(message)

    assert code_of(response) == (100, None)
    assert meta.world.sends.messages == []


@pytest.mark.parametrize(
    "params",
    [
        {"messaging_type": "MESSAGE_TAG", "tag": "ACCOUNT_UPDATE"},
        {"messaging_type": "RESPONSE", "tag": "HUMAN_AGENT"},
        {"message": "text"},
        {"recipient": PSID},
        {"recipient": {"id": ""}},
    ],
)
async def test_bad_parameters_are_code_100(meta: Meta, params: dict[str, object]) -> None:
    assert code_of(await meta.send(**params)) == (100, None)


async def test_body_that_is_no_json_object_is_code_100(meta: Meta) -> None:
    for body in (b"{", b"[]"):
        response = await meta.http.post(
            f"/v25.0/{PAGE}/messages", content=body, headers={"Content-Type": "application/json"}
        )
        assert code_of(response) == (100, None)


async def test_call_without_token_is_refused(meta: Meta) -> None:
    response = await meta.http.post(f"/v25.0/{PAGE}/messages", json={"recipient": {"id": PSID}})

    assert response.status_code == 401
    assert code_of(response) == (104, None)


async def test_token_of_another_page_is_refused(meta: Meta) -> None:
    meta.configure(page_tokens={PAGE: "other"})

    assert code_of(await meta.send()) == (190, None)


async def test_missing_proof_is_refused_where_it_is_required(meta: Meta) -> None:
    meta.configure(require_proof=True)

    assert code_of(await meta.send()) == (100, None)
    assert (await meta.send(appsecret_proof=appsecret_proof("t0ken", "s3cret"))).status_code == 200


async def test_wrong_proof_is_refused_even_where_none_is_required(meta: Meta) -> None:
    response = await meta.send(appsecret_proof=appsecret_proof("t0ken", "wrong"))

    assert code_of(response) == (100, None)
    assert meta.world.sends.messages == []


async def test_more_than_the_rate_is_613_until_the_second_is_over(meta: Meta) -> None:
    meta.configure(sends_per_second=2)
    first, second, third = [await meta.send() for _ in range(3)]
    meta.now += timedelta(seconds=1)
    later = await meta.send()

    assert [answer.status_code for answer in (first, second, third, later)] == [200, 200, 429, 200]
    assert code_of(third) == (613, None)
    assert [_used(answer) for answer in (first, second, third, later)] == [50, 100, 100, 50]


def _used(answer: object) -> int:
    usage = json.loads(answer.headers["X-Business-Use-Case-Usage"])  # type: ignore[attr-defined]
    share: int = usage[PAGE][0]["call_count"]
    return share


async def test_echo_tells_app_and_metadata_with_swapped_ids(meta: Meta) -> None:
    await meta.send({"text": "Thanks!", "metadata": "command-1"})

    [body] = meta.webhooks
    [item] = json.loads(body)["entry"][0]["messaging"]
    assert (item["sender"]["id"], item["recipient"]["id"]) == (PAGE, PSID)
    assert item["message"] == {
        "is_echo": True,
        "app_id": int(OUR_APP),
        "metadata": "command-1",
        "mid": meta.world.sends.messages[0].mid,
        "text": "Thanks!",
    }


async def test_delivery_and_read_follow_the_echo_when_asked_for(meta: Meta) -> None:
    meta.configure(report_delivery=True, report_read=True)

    await meta.send()

    kinds = [
        json.loads(body)["entry"][0]["messaging"][0].keys() & {"message", "delivery", "read"} for body in meta.webhooks
    ]
    assert kinds == [{"message"}, {"delivery"}, {"read"}]


async def test_refused_message_is_told_to_nobody(meta: Meta) -> None:
    meta.know(owner=OTHER_APP)

    await meta.send()

    assert meta.webhooks == []
