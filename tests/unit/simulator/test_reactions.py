"""People who react: receipts for everything that was sent, and the same readers and repliers in every run."""

import json
from dataclasses import asdict
from datetime import timedelta

import pytest

from messenger.events import Psid
from simulator.reactions import Reactions
from simulator.threads import ThreadNews
from tests.unit.simulator.conftest import NOW, OUR_APP, PAGE, PSID, Meta

pytestmark = pytest.mark.anyio


async def _react(meta: Meta, read: float, reply: float) -> tuple[dict[str, int], list[str]]:
    """The counts, and the kind of each webhook that was posted."""
    meta.webhooks.clear()
    counts = (await meta.http.post("/_simulator/reactions", json=asdict(Reactions(read, reply)))).json()
    items = [json.loads(body)["entry"][0]["messaging"][0] for body in meta.webhooks]
    return counts, [kind for item in items for kind in ("delivery", "read", "message") if kind in item]


async def test_everyone_reads_each_message_and_answers_once(meta: Meta) -> None:
    await meta.send()
    await meta.send()

    counts, kinds = await _react(meta, read=1, reply=1)

    assert counts == {"delivered": 2, "read": 2, "replied": 1}
    assert kinds == ["delivery", "read", "message", "delivery", "read"]


async def test_a_reply_opens_the_window_and_is_in_the_conversation(meta: Meta) -> None:
    await meta.send()
    meta.now += timedelta(minutes=1)

    await _react(meta, read=0, reply=1)

    thread = meta.world.threads.find(PAGE, PSID)
    assert thread is not None
    assert thread.last_user_message_at == NOW + timedelta(minutes=1)
    assert [line.from_person for line in thread.lines] == [False, True]


async def test_nobody_reads_where_no_share_does(meta: Meta) -> None:
    await meta.send()

    assert await _react(meta, read=0, reply=0) == ({"delivered": 1, "read": 0, "replied": 0}, ["delivery"])


async def test_the_same_people_react_in_every_run(meta: Meta) -> None:
    people = [Psid(str(10**15 + number)) for number in range(200)]
    written = NOW - timedelta(hours=1)
    meta.world.threads.learn(
        [ThreadNews(page_id=PAGE, psid=psid, owner=OUR_APP, last_user_message_at=written) for psid in people], NOW
    )
    for psid in people:
        meta.now += timedelta(seconds=1)
        await meta.send(recipient={"id": psid})

    counts, kinds = await _react(meta, read=0.7, reply=0.3)

    assert (counts, kinds) == await _react(meta, read=0.7, reply=0.3)
    assert counts == {"delivered": 200, "read": kinds.count("read"), "replied": kinds.count("message")}
    assert 0.6 < counts["read"] / 200 < 0.8
    assert 0.2 < counts["replied"] / 200 < 0.4


@pytest.mark.parametrize("body", ["oops", {}, {"read": "all", "reply": 0}])
async def test_shares_that_cannot_be_read_are_refused(meta: Meta, body: object) -> None:
    await meta.send()
    meta.webhooks.clear()

    response = await meta.http.post("/_simulator/reactions", json=body)

    assert (response.status_code, meta.webhooks) == (400, [])
