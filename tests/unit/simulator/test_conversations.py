"""The fake Conversations API: order, details, cursors and the `fields` language."""

from datetime import timedelta
from urllib.parse import parse_qs, urlsplit

import pytest

from messenger.client import GraphClient
from messenger.events import Psid
from messenger.graph import conversation_messages, conversation_request
from simulator.conversations import parse_fields
from simulator.refusals import Refused
from simulator.threads import Line, ThreadNews
from tests.unit.simulator.conftest import NOW, OUR_APP, PAGE, PSID, Meta, code_of


def _lines(count: int) -> tuple[Line, ...]:
    return tuple(
        Line(f"m_{number}", number % 2 == 1, f"line {number}", NOW - timedelta(minutes=count - number))
        for number in range(count)
    )


@pytest.mark.anyio
async def test_our_client_reads_what_was_said_newest_first(meta: Meta) -> None:
    meta.know(owner=OUR_APP, lines=_lines(3))
    client = GraphClient("http://graph.test", "v25.0", meta.http)

    response = await client.call(conversation_request(PAGE, PSID), "t0ken")

    messages = conversation_messages(response.body)
    assert [(message.mid, message.sender_id, message.text) for message in messages] == [
        ("m_2", PAGE, "line 2"),
        ("m_1", PSID, "line 1"),
        ("m_0", PAGE, "line 0"),
    ]


@pytest.mark.anyio
async def test_sent_message_shows_in_the_conversation(meta: Meta) -> None:
    sent = (await meta.send({"text": "Thanks!"})).json()["message_id"]

    [thread] = (await meta.get(f"/v25.0/{PAGE}/conversations", user_id=PSID, fields="messages{id,message}")).json()[
        "data"
    ]

    assert thread["messages"]["data"] == [{"id": sent, "message": "Thanks!"}]


@pytest.mark.anyio
async def test_times_have_an_offset_without_colon(meta: Meta) -> None:
    meta.know(owner=OUR_APP, lines=_lines(1))

    [thread] = (await meta.get(f"/v25.0/{PAGE}/conversations", fields="updated_time")).json()["data"]

    assert thread == {"updated_time": "2026-05-05T11:59:00+0000", "id": f"t_{PSID}"}


@pytest.mark.anyio
async def test_only_the_twenty_newest_messages_have_details(meta: Meta) -> None:
    meta.know(owner=OUR_APP, lines=_lines(22))

    [thread] = (await meta.get(f"/v25.0/{PAGE}/conversations", fields="messages.limit(25){id,message}")).json()["data"]

    messages = thread["messages"]["data"]
    assert [message.get("message") for message in messages[18:]] == ["line 3", "line 2", None, None]
    assert messages[20:] == [{"id": "m_1"}, {"id": "m_0"}]


@pytest.mark.anyio
async def test_next_leads_on_and_holds_the_token(meta: Meta) -> None:
    meta.know(owner=OUR_APP, lines=_lines(5))
    first = (await meta.get(f"/v25.0/{PAGE}/conversations", fields="messages.limit(3){id}")).json()["data"][0][
        "messages"
    ]

    rest = (await meta.http.get(first["paging"]["next"])).json()

    assert parse_qs(urlsplit(first["paging"]["next"]).query)["access_token"] == ["t0ken"]
    assert [message["id"] for message in rest["data"]] == ["m_1", "m_0"]
    assert "next" not in rest["paging"]


@pytest.mark.anyio
async def test_cursor_in_the_fields_leads_on_too(meta: Meta) -> None:
    meta.know(owner=OUR_APP, lines=_lines(5))
    path, fields = f"/v25.0/{PAGE}/conversations", "messages.limit(4){id}"
    first = (await meta.get(path, fields=fields)).json()["data"][0]["messages"]

    after = first["paging"]["cursors"]["after"]
    [thread] = (await meta.get(path, fields=f"messages.limit(4).after({after}){{id}}")).json()["data"]

    assert [message["id"] for message in thread["messages"]["data"]] == ["m_0"]


@pytest.mark.anyio
async def test_without_user_id_the_whole_inbox_is_listed_newest_first(meta: Meta) -> None:
    meta.know(owner=OUR_APP, lines=_lines(2))
    other = ThreadNews(page_id=PAGE, psid=Psid("1"), owner=None, last_user_message_at=NOW)
    meta.world.threads.learn([other], NOW)

    threads = (await meta.get(f"/v25.0/{PAGE}/conversations")).json()["data"]

    assert [thread["id"] for thread in threads] == ["t_1", f"t_{PSID}"]


@pytest.mark.anyio
async def test_person_who_never_wrote_has_no_conversation(meta: Meta) -> None:
    response = await meta.get(f"/v25.0/{PAGE}/conversations", user_id="1")

    assert response.json() == {"data": []}


@pytest.mark.anyio
async def test_third_call_in_a_second_is_613(meta: Meta) -> None:
    answers = [await meta.get(f"/v25.0/{PAGE}/conversations") for _ in range(3)]

    assert [answer.status_code for answer in answers] == [200, 200, 429]


@pytest.mark.anyio
@pytest.mark.parametrize(
    "params",
    [{"platform": "instagram"}, {"limit": "0"}, {"limit": "many"}, {"after": "nowhere"}, {"fields": "messages{"}],
)
async def test_bad_query_is_code_100(meta: Meta, params: dict[str, str]) -> None:
    assert code_of(await meta.get(f"/v25.0/{PAGE}/conversations", **params)) == (100, None)


@pytest.mark.anyio
async def test_messages_of_an_unknown_thread_are_refused(meta: Meta) -> None:
    assert code_of(await meta.get("/v25.0/t_1/messages")) == (100, 33)


def test_fields_nest_and_take_modifiers() -> None:
    fields = parse_fields("participants, messages.limit(20).after(QVFI=) { id, from{name} }")

    assert list(fields) == ["participants", "messages"]
    assert fields["messages"].modifiers == {"limit": "20", "after": "QVFI="}
    assert list(fields["messages"].fields) == ["id", "from"]
    assert list(fields["messages"].fields["from"].fields) == ["name"]


@pytest.mark.parametrize("text", ["a{b", "a}", "a,{b}", "a.limit", "a.limit(2", "a b", "a;b", "1a"])
def test_broken_fields_are_refused(text: str) -> None:
    with pytest.raises(Refused):
        parse_fields(text)
