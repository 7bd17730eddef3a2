"""Graph API calls as values, and what Meta's answers mean."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from messenger import errors
from messenger.events import PageId, Psid
from messenger.graph import (
    ConversationMessage,
    GraphRequest,
    Usage,
    conversation_messages,
    conversation_request,
    decipher_response,
    send_request,
    thread_owner,
    thread_owner_request,
)

PAGE, PERSON = PageId("542998526103632"), Psid("5794982867201265")


def test_a_text_is_sent_as_a_response_with_its_metadata() -> None:
    request = send_request(PAGE, PERSON, {"text": "Thanks!", "quick_replies": (), "buttons": ()}, metadata="command-1")

    assert request == GraphRequest(
        "POST",
        f"{PAGE}/messages",
        body={
            "recipient": {"id": PERSON},
            "messaging_type": "RESPONSE",
            "message": {"text": "Thanks!", "metadata": "command-1"},
        },
    )


def test_quick_replies_stand_beside_the_text() -> None:
    message = {"text": "Still there?", "quick_replies": [{"title": "Yes", "payload": "YES"}]}

    request = send_request(PAGE, PERSON, message, metadata="command-1")

    assert request.body is not None
    assert request.body["message"] == {
        "text": "Still there?",
        "quick_replies": [{"content_type": "text", "title": "Yes", "payload": "YES"}],
        "metadata": "command-1",
    }


def test_buttons_make_a_button_template_that_holds_the_text() -> None:
    buttons = [
        {"type": "web_url", "title": "Shop", "url": "https://shop.example.test", "payload": None},
        {"type": "postback", "title": "Call me", "url": None, "payload": "CALL"},
    ]

    request = send_request(PAGE, PERSON, {"text": "What next?", "buttons": buttons}, metadata="command-1")

    assert request.body is not None
    assert request.body["message"] == {
        "attachment": {
            "type": "template",
            "payload": {
                "template_type": "button",
                "text": "What next?",
                "buttons": [
                    {"type": "web_url", "title": "Shop", "url": "https://shop.example.test"},
                    {"type": "postback", "title": "Call me", "payload": "CALL"},
                ],
            },
        },
        "metadata": "command-1",
    }


def test_a_conversation_is_asked_for_by_person_and_with_senders() -> None:
    assert conversation_request(PAGE, PERSON) == GraphRequest(
        "GET",
        f"{PAGE}/conversations",
        {"platform": "messenger", "user_id": PERSON, "fields": "messages.limit(20){id,from,message,created_time}"},
    )


def test_the_thread_owner_is_asked_for_by_person() -> None:
    assert thread_owner_request(PAGE, PERSON) == GraphRequest("GET", f"{PAGE}/thread_owner", {"recipient": PERSON})


def test_a_page_id_cannot_leave_its_place_in_the_path() -> None:
    assert thread_owner_request(PageId("../1?x=/"), PERSON).path == "..%2F1%3Fx%3D%2F/thread_owner"


def _row(**changes: Any) -> dict[str, Any]:
    row = {"id": "m_2", "message": "Lyon", "from": {"id": PERSON}, "created_time": "2026-02-02T02:41:00+0000"}
    return {**row, **changes}


def test_messages_of_a_conversation_keep_their_order() -> None:
    rows = [_row(), _row(id="m_1", message="", **{"from": {"id": PAGE}})]

    read = conversation_messages({"data": [{"id": "t_1", "messages": {"data": rows}}]})

    at = datetime(2026, 2, 2, 2, 41, tzinfo=UTC)
    assert read == (ConversationMessage("m_2", PERSON, "Lyon", at), ConversationMessage("m_1", PAGE, None, at))


@pytest.mark.parametrize(
    "change",
    [
        {"id": None},
        {"from": None},
        {"created_time": None},
        {"created_time": "2026-02-02"},
        {"created_time": "2026-02-30T02:41:00+0000"},
    ],
)
def test_a_row_without_id_sender_or_time_is_no_message(change: dict[str, Any]) -> None:
    assert conversation_messages({"data": [{"messages": {"data": [_row(**change)]}}]}) == ()


@pytest.mark.parametrize("body", [{}, {"data": {}}, {"data": [5]}, {"data": [{"messages": []}]}])
def test_an_empty_inbox_has_no_messages(body: dict[str, Any]) -> None:
    assert conversation_messages(body) == ()


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"data": [{"thread_owner": {"app_id": 2262510160704936, "expiration": 1770086400}}]}, "2262510160704936"),
        ({"data": [{"thread_owner": {"expiration": 1770086400}}]}, None),
        ({"data": []}, None),
        ({}, None),
    ],
)
def test_the_owner_is_named_only_where_meta_names_it(body: dict[str, Any], expected: str | None) -> None:
    assert thread_owner(body) == expected


def test_a_good_answer_is_given_as_it_is() -> None:
    response = decipher_response(200, {}, b'{"recipient_id": "1", "message_id": "m_OUT1"}')

    assert (response.body, response.usage) == ({"recipient_id": "1", "message_id": "m_OUT1"}, None)


def _refusal(status: int, error: dict[str, Any], headers: dict[str, str] | None = None) -> errors.GraphError:
    with pytest.raises(errors.GraphError) as refused:
        decipher_response(status, headers or {}, json.dumps({"error": error}).encode())
    return refused.value


@pytest.mark.parametrize(
    ("code", "subcode", "kind"),
    [
        (10, 2018278, errors.WindowClosed),
        (10, 2018065, errors.WindowClosed),
        (10, 2534022, errors.WindowClosed),
        (10, 2018108, errors.PersonUnavailable),
        (551, None, errors.PersonUnavailable),
        (551, 1545041, errors.PersonUnavailable),
        (200, 1545041, errors.PersonUnavailable),
        (230, None, errors.PersonUnavailable),
        (10903, None, errors.PersonUnavailable),
        (100, 2018001, errors.PersonUnavailable),
        (100, 33, errors.PersonUnavailable),
        (100, 2018164, errors.PersonUnavailable),
        (613, 2018338, errors.PersonUnavailable),
        (10, 2018300, errors.ParkUntilOwner),
        (10, 2018321, errors.ParkUntilOwner),
        (100, 2018321, errors.ParkUntilOwner),
        (2018321, None, errors.ParkUntilOwner),
        (10, 1893063, errors.PageBlocked),
        (368, None, errors.PageBlocked),
        (2022, None, errors.PageBlocked),
        (190, None, errors.PageBlocked),
        (190, 463, errors.PageBlocked),
        (102, None, errors.PageBlocked),
        (10, None, errors.NotPermitted),
        (3, None, errors.NotPermitted),
        (27, None, errors.NotPermitted),
        (200, None, errors.NotPermitted),
        (299, None, errors.NotPermitted),
        (2018247, None, errors.NotPermitted),
        (1, 99, errors.NotPermitted),
        (2, 2018344, errors.NotPermitted),
        *((code, None, errors.Throttled) for code in (4, 17, 32, 341, 613, 80001, 80006)),
        *((code, None, errors.OutcomeUnknown) for code in (-1, 1, 2, 1200)),
        (1, 1357046, errors.OutcomeUnknown),
        (100, 2018008, errors.NotSent),
        (100, 2018109, errors.InvalidRequest),
        (100, None, errors.InvalidRequest),
        (9000001, None, errors.InvalidRequest),
        (300, None, errors.InvalidRequest),
        (100, 123456, errors.InvalidRequest),
    ],
)
def test_each_code_is_a_type_that_says_what_to_do(code: int, subcode: int | None, kind: type) -> None:
    error = {"message": "(#10)", "type": "OAuthException", "code": code, "fbtrace_id": "Atrace"}

    refusal = _refusal(400, error if subcode is None else {**error, "error_subcode": subcode})

    assert type(refusal) is kind
    assert (refusal.code, refusal.subcode, refusal.trace_id) == (code, subcode, "Atrace")


@pytest.mark.parametrize(
    ("kind", "family"),
    [
        (errors.NotSent, errors.Retryable),
        (errors.Throttled, errors.Retryable),
        (errors.WindowClosed, errors.Permanent),
        (errors.PersonUnavailable, errors.Permanent),
        (errors.NotPermitted, errors.Permanent),
        (errors.InvalidRequest, errors.Permanent),
    ],
)
def test_retryable_or_permanent_is_a_type(kind: type, family: type) -> None:
    assert issubclass(kind, family)


@pytest.mark.parametrize("kind", [errors.OutcomeUnknown, errors.ParkUntilOwner, errors.PageBlocked])
def test_what_needs_a_look_first_is_neither_retryable_nor_permanent(kind: type) -> None:
    assert not issubclass(kind, errors.Retryable | errors.Permanent)


@pytest.mark.parametrize(
    ("status", "error", "kind"),
    [
        (500, {"code": 77}, errors.OutcomeUnknown),
        (400, {"code": 77, "is_transient": True}, errors.OutcomeUnknown),
        (400, {"code": 77, "is_transient": "true"}, errors.InvalidRequest),
        (500, {"code": 10, "error_subcode": 2018278}, errors.WindowClosed),
        (200, {"code": 190}, errors.PageBlocked),
        (400, {"code": "190"}, errors.NotSent),
        (400, {"code": True}, errors.NotSent),
        (503, {}, errors.OutcomeUnknown),
        (429, {}, errors.Throttled),
    ],
)
def test_the_status_decides_where_no_known_code_does(status: int, error: dict[str, Any], kind: type) -> None:
    assert type(_refusal(status, error)) is kind


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (200, b"<html>", errors.OutcomeUnknown),
        (200, b"[]", errors.OutcomeUnknown),
        (200, b'{"error": null}', errors.OutcomeUnknown),
        (302, b"", errors.OutcomeUnknown),
        (403, b"blocked by a proxy", errors.NotSent),
        (429, b"", errors.Throttled),
        (502, b"", errors.OutcomeUnknown),
        (502, b"[" * 100_000, errors.OutcomeUnknown),
    ],
)
def test_an_answer_that_is_not_the_graph_apis_is_never_taken_for_success(status: int, body: bytes, kind: type) -> None:
    with pytest.raises(errors.GraphError) as refused:
        decipher_response(status, {}, body)

    assert type(refused.value) is kind


def test_no_error_repeats_the_words_of_meta() -> None:
    refusal = _refusal(400, {"code": 100, "message": f"no user {PERSON}", "error_user_msg": "Ana"})

    assert PERSON not in str(refusal)
    assert "Ana" not in str(refusal)


def _buc(*counts: object) -> dict[str, str]:
    return {"X-Business-Use-Case-Usage": json.dumps({PAGE: counts})}


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        (
            _buc({"type": "messenger", "call_count": 80, "total_cputime": 25, "estimated_time_to_regain_access": 0}),
            Usage(80, None),
        ),
        (
            _buc({"call_count": 1}, {"total_time": 100, "estimated_time_to_regain_access": 19}),
            Usage(100, timedelta(minutes=19)),
        ),
        ({"x-app-usage": '{"call_count": 28, "total_time": 25, "total_cputime": 25}'}, Usage(28, None)),
        ({"X-App-Usage": '{"call_count": 90}', **_buc({"call_count": 20})}, Usage(90, None)),
        (_buc({"call_count": "80", "total_time": 10**9, "estimated_time_to_regain_access": -1}), Usage(0, None)),
        (_buc("count"), Usage(0, None)),
        ({"X-Business-Use-Case-Usage": '{"1": {}}'}, None),
        ({"X-Business-Use-Case-Usage": "[]", "X-App-Usage": "{}"}, None),
        ({"X-App-Usage": "many"}, None),
        ({}, None),
    ],
)
def test_the_worst_usage_is_told(headers: dict[str, str], expected: Usage | None) -> None:
    assert decipher_response(200, headers, b"{}").usage == expected


def test_a_throttled_call_says_when_access_comes_back() -> None:
    headers = _buc({"call_count": 100, "estimated_time_to_regain_access": 19})

    assert _refusal(400, {"code": 80006}, headers).regain_after == timedelta(minutes=19)
    assert _refusal(400, {"code": 80006}).regain_after is None


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@given(status=st.integers(100, 599), error=_JSON, usage=_JSON)
def test_any_json_from_meta_is_an_answer_or_a_graph_error(status: int, error: Any, usage: Any) -> None:
    headers = {"X-App-Usage": json.dumps(usage), "X-Business-Use-Case-Usage": json.dumps({"1": usage})}
    bodies = [{"error": error}, {"error": {"code": error, "error_subcode": error, "fbtrace_id": error}}, error]

    for body in bodies:
        try:
            response = decipher_response(status, headers, json.dumps(body).encode())
        except errors.GraphError:
            continue
        assert 200 <= status < 300
        assert "error" not in response.body
