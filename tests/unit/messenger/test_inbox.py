"""A Page's inbox: how it is asked for, and what of Meta's answer is read."""

from typing import Any

import pytest

from messenger.graph import inbox_conversations, inbox_request, next_cursor
from tests.builders import NOON, PAGE, PERSON


def a_row(**more: Any) -> dict[str, Any]:
    message = {
        "id": "m_1",
        "message": "Yes",
        "from": {"name": "A person", "id": PERSON},
        "created_time": "2026-03-02T11:59:58+0000",
    }
    return {
        "participants": {"data": [{"name": "The Page", "id": PAGE}, {"name": "A person", "id": PERSON}]},
        "updated_time": "2026-03-02T12:00:00+0000",
        "messages": {"data": [message], "paging": {"cursors": {"before": "b", "after": "a"}}},
        "id": "t_1",
        **more,
    }


def test_the_whole_inbox_is_asked_for_with_who_spoke_and_when() -> None:
    first, later = inbox_request(PAGE), inbox_request(PAGE, "c1")

    assert (first.method, first.path, first.body) == ("GET", f"{PAGE}/conversations", None)
    assert "user_id" not in first.query
    assert first.query["fields"] == ("participants,updated_time,messages.limit(20){id,from,message,created_time}")
    assert later.query == {**first.query, "after": "c1"}


def test_a_conversation_is_read_with_its_person_and_its_messages() -> None:
    (one,) = inbox_conversations({"data": [a_row()]}, {PAGE})

    assert (one.psid, one.updated_at, one.has_older) == (PERSON, NOON, False)
    assert [(said.sender_id, said.text) for said in one.messages] == [(PERSON, "Yes")]


@pytest.mark.parametrize(
    "messages",
    [
        {"data": [], "paging": {"cursors": {"after": "a"}, "next": "https://graph.example/?access_token=t0ken"}},
        {"data": [{"id": "m_old"}]},
    ],
    ids=["another page", "without details"],
)
def test_messages_that_meta_does_not_show_are_known_to_be_there(messages: dict[str, Any]) -> None:
    (one,) = inbox_conversations({"data": [a_row(messages=messages)]}, {PAGE})

    assert (one.has_older, one.messages) == (True, ())


@pytest.mark.parametrize(
    "row",
    [
        a_row(updated_time="yesterday"),
        a_row(participants={"data": [{"id": PAGE}]}),
        a_row(participants=None),
        {},
        "nonsense",
    ],
    ids=["no time", "only the Page", "nobody", "empty", "no object"],
)
def test_what_is_no_conversation_with_a_person_is_left_out(row: Any) -> None:
    assert inbox_conversations({"data": [row]}, {PAGE}) == ()


def test_the_page_is_known_by_any_of_its_ids() -> None:
    row = a_row(participants={"data": [{"id": "104508901353867"}, {"id": PERSON}]})

    (one,) = inbox_conversations({"data": [row]}, {PAGE, "104508901353867"})  # type: ignore[arg-type]

    assert one.psid == PERSON


def test_the_link_to_the_next_page_is_never_used() -> None:
    paging = {"cursors": {"after": "a"}, "next": "https://graph.example/?access_token=t0ken"}

    assert next_cursor({"data": [], "paging": paging}) == "a"
