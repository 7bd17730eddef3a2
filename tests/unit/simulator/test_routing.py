"""The fake's Conversation Routing: who may pass, take, release, extend, and what an owner query shows."""

from datetime import timedelta

import pytest

from messenger.client import GraphClient
from messenger.graph import thread_owner, thread_owner_request
from messenger.limits import PAGE_INBOX_APP_ID
from tests.unit.simulator.conftest import NOW, OTHER_APP, OUR_APP, PAGE, PSID, Meta, code_of

pytestmark = pytest.mark.anyio


def _owner(meta: Meta) -> str | None:
    thread = meta.world.threads.find(PAGE, PSID)
    assert thread is not None
    return thread.owner_at(meta.now)


async def test_passed_thread_belongs_to_the_target(meta: Meta) -> None:
    response = await meta.route("pass", target_app_id=PAGE_INBOX_APP_ID)

    assert response.json() == {"success": True}
    assert _owner(meta) == PAGE_INBOX_APP_ID


async def test_released_thread_is_idle(meta: Meta) -> None:
    await meta.route("release")

    assert _owner(meta) is None
    assert (await meta.get(f"/{PAGE}/thread_owner", recipient=PSID)).json() == {"data": []}


@pytest.mark.parametrize("action", ["pass", "release", "extend"])
async def test_only_the_owner_decides(meta: Meta, action: str) -> None:
    meta.know(owner=OTHER_APP)

    response = await meta.route(action, target_app_id=OUR_APP, duration=60)

    assert code_of(response) == (100, None)
    assert _owner(meta) == OTHER_APP


async def test_taken_thread_is_ours(meta: Meta) -> None:
    meta.know(owner=OTHER_APP)

    await meta.route("take")

    assert _owner(meta) == OUR_APP


async def test_take_is_blocked_without_default_app(meta: Meta) -> None:
    meta.configure(default_app_set=False)
    meta.know(owner=OTHER_APP)

    response = await meta.route("take")

    assert code_of(response) == (27, None)
    assert _owner(meta) == OTHER_APP


async def test_request_succeeds_and_changes_nothing(meta: Meta) -> None:
    meta.know(owner=OTHER_APP)

    response = await meta.route("request")

    assert response.json() == {"success": True}
    assert _owner(meta) == OTHER_APP


async def test_extended_control_lasts_as_long_as_asked(meta: Meta) -> None:
    await meta.route("extend", duration=7 * 24 * 3600)
    meta.now = NOW + timedelta(days=7, milliseconds=-1)

    assert _owner(meta) == OUR_APP


async def test_routing_puts_an_extended_control_back_to_a_day(meta: Meta) -> None:
    await meta.route("extend", duration=7 * 24 * 3600)
    await meta.route("take")
    meta.now = NOW + timedelta(days=1)

    assert _owner(meta) is None


@pytest.mark.parametrize("duration", [0, 7 * 24 * 3600 + 1, "soon", None])
async def test_duration_beyond_seven_days_is_refused(meta: Meta, duration: object) -> None:
    assert code_of(await meta.route("extend", duration=duration)) == (100, None)


async def test_pass_to_something_that_is_no_app_is_refused(meta: Meta) -> None:
    assert code_of(await meta.route("pass", target_app_id="inbox")) == (100, None)


async def test_owner_query_of_our_client_names_the_owner(meta: Meta) -> None:
    meta.know(owner=OTHER_APP)
    client = GraphClient("http://graph.test", "v25.0", meta.http)

    response = await client.call(thread_owner_request(PAGE, PSID), "t0ken")

    assert thread_owner(response.body) == OTHER_APP


async def test_owner_is_hidden_from_others_without_default_app(meta: Meta) -> None:
    meta.configure(default_app_set=False)
    meta.know(owner=OTHER_APP)

    [row] = (await meta.get(f"/v25.0/{PAGE}/thread_owner", recipient=PSID)).json()["data"]

    assert row["thread_owner"].keys() == {"expiration"}


async def test_unknown_thread_has_no_owner_to_ask_for(meta: Meta) -> None:
    assert code_of(await meta.get(f"/{PAGE}/thread_owner", recipient="1")) == (100, 2018001)
