"""The control API: what it learns it knows, and its counts tell calls from effects."""

from datetime import timedelta

import pytest

from simulator.control import NEWS
from simulator.threads import Line, ThreadNews
from tests.unit.simulator.conftest import NOW, OTHER_APP, OUR_APP, PAGE, PSID, Meta

pytestmark = pytest.mark.anyio

_NEWS = ThreadNews(
    page_id=PAGE,
    psid=PSID,
    owner=OTHER_APP,
    last_user_message_at=NOW,
    unavailable=True,
    lines=(Line("m_1", from_person=True, text="Yes: 👍\nindeed", at=NOW),),
)


async def test_news_comes_back_from_json_as_it_was() -> None:
    assert NEWS.validate_json(NEWS.dump_json((_NEWS,)), strict=True) == (_NEWS,)


async def test_told_conversation_is_known(meta: Meta) -> None:
    await meta.http.put("/_simulator/conversations", content=NEWS.dump_json((_NEWS,)))

    [thread] = (await meta.http.get("/_simulator/conversations")).json()["data"]

    [news] = NEWS.dump_python((_NEWS,), mode="json")
    assert {**thread, "owner_until": None} == {**news, "owner_until": None}


async def test_last_message_never_moves_back_and_lines_are_added_once(meta: Meta) -> None:
    older = Line("m_0", from_person=False, text="Well?", at=NOW - timedelta(minutes=1))
    for news in (_NEWS, ThreadNews(page_id=PAGE, psid=PSID, owner=OUR_APP, lines=(older, *_NEWS.lines))):
        await meta.http.put("/_simulator/conversations", content=NEWS.dump_json((news,)))

    thread = meta.world.threads.find(PAGE, PSID)

    assert thread is not None
    assert (thread.owner, thread.last_user_message_at) == (OUR_APP, NOW)
    assert [line.mid for line in thread.lines] == ["m_0", "m_1"]


@pytest.mark.parametrize(
    "news",
    [
        "oops",
        [{}],
        [{"page_id": PAGE, "psid": PSID, "lines": {}}],
        [{"page_id": PAGE, "psid": PSID, "last_user_message_at": "today"}],
        [{"page_id": PAGE, "psid": PSID, "lines": [{"mid": "m_1"}]}],
    ],
)
async def test_news_that_cannot_be_read_is_refused(meta: Meta, news: object) -> None:
    response = await meta.http.put("/_simulator/conversations", json=news)

    assert response.status_code == 400
    assert response.json()["error"]


async def test_counts_tell_calls_from_effects(meta: Meta) -> None:
    await meta.send({"text": "Thanks!", "metadata": "one"})
    await meta.send({"text": "", "metadata": "one"})
    await meta.send({"text": "Thanks!"}, recipient={"id": "1"})

    assert (await meta.http.get("/_simulator/sends")).json() == {
        "calls": 3,
        "effects": 1,
        "refused": {"100": 1, "100/2018001": 1},
        "by_recipient": {PSID: {"calls": 2, "effects": 1}, "1": {"calls": 1, "effects": 0}},
        "by_metadata": {"one": {"calls": 2, "effects": 1}, "": {"calls": 1, "effects": 0}},
    }


async def test_sent_messages_are_listed(meta: Meta) -> None:
    await meta.send({"text": "Thanks!", "metadata": "one"})

    [sent] = (await meta.http.get("/_simulator/messages")).json()["data"]

    assert (sent["psid"], sent["text"], sent["metadata"]) == (PSID, "Thanks!", "one")


async def test_forgotten_world_is_empty(meta: Meta) -> None:
    await meta.send()
    await meta.http.put(f"/_simulator/pages/{PAGE}", json={"blocked": True})

    await meta.http.delete("/_simulator")

    assert (await meta.http.get("/_simulator/conversations")).json() == {"data": []}
    assert (await meta.http.get("/_simulator/sends")).json()["calls"] == 0
    assert meta.world.blocked_pages == set()
