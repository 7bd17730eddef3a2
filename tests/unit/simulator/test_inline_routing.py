"""What becomes of a thread with a message that gives it away, and by our own routing calls."""

from datetime import timedelta
from typing import Literal

import pytest

from messenger.client import GraphClient
from messenger.events import AppId
from messenger.graph import GraphRequest, extend_request, pass_request, release_request, send_request, take_request
from messenger.limits import PAGE_INBOX_APP_ID
from simulator.threads import Thread
from tests.unit.simulator.conftest import NOW, OTHER_APP, OUR_APP, PAGE, PSID, Meta, code_of

pytestmark = pytest.mark.anyio


def _thread(meta: Meta) -> Thread:
    thread = meta.world.threads.find(PAGE, PSID)
    assert thread is not None
    return thread


async def _call(meta: Meta, request: GraphRequest) -> None:
    await GraphClient("http://graph.test", "v25.0", meta.http, "s3cret").call(request, "t0ken")


@pytest.mark.parametrize(("then", "owner"), [(None, OUR_APP), ("pass_to_inbox", PAGE_INBOX_APP_ID), ("release", None)])
async def test_a_message_may_give_the_thread_away(
    meta: Meta, then: Literal["pass_to_inbox", "release"] | None, owner: AppId | None
) -> None:
    await _call(meta, send_request(PAGE, PSID, {"text": "Bye"}, metadata="one", then=then))

    assert _thread(meta).owner == owner
    assert len(meta.world.sends.messages) == 1


async def test_a_refused_message_leaves_the_thread_where_it_is(meta: Meta) -> None:
    meta.now = NOW + timedelta(hours=23, minutes=30)

    response = await meta.send(thread_control={"control_type": "release"})

    assert code_of(response) == (10, 2018278)
    assert _thread(meta).owner == OUR_APP


async def test_our_routing_calls_are_understood(meta: Meta) -> None:
    await _call(meta, extend_request(PAGE, PSID, timedelta(days=3)))
    assert _thread(meta).owner_until == NOW + timedelta(days=3)

    await _call(meta, pass_request(PAGE, PSID, OTHER_APP))
    assert _thread(meta).owner == OTHER_APP

    await _call(meta, take_request(PAGE, PSID))
    assert _thread(meta).owner == OUR_APP

    await _call(meta, release_request(PAGE, PSID))
    assert _thread(meta).owner is None


@pytest.mark.parametrize("duration", [timedelta(0), timedelta(days=7, seconds=1)])
def test_an_extension_that_meta_would_refuse_is_refused_here(duration: timedelta) -> None:
    with pytest.raises(ValueError, match="up to 7 days"):
        extend_request(PAGE, PSID, duration)
