"""The fake Graph as a server: reachable on loopback, and its echoes reach the webhook in order."""

import json
from datetime import timedelta

import anyio
import httpx
import pytest

from messenger.events import PageId
from messenger.setup import WEBHOOK_FIELDS
from runtime.clock import to_millis
from simulator.poster import Poster
from simulator.server import serve_graph
from simulator.world import GraphConfig
from tests.unit.simulator.conftest import NOW, OUR_APP, PAGE, PSID

pytestmark = pytest.mark.anyio


async def test_echoes_are_posted_in_the_order_of_the_effects() -> None:
    echoed: list[str] = []
    all_in = anyio.Event()

    def receive(request: httpx.Request) -> httpx.Response:
        echoed.append(json.loads(request.content)["entry"][0]["messaging"][0]["message"]["text"])
        if len(echoed) == 2:
            all_in.set()
        return httpx.Response(200)

    webhook = Poster(httpx.AsyncClient(transport=httpx.MockTransport(receive)), "http://127.0.0.1:1/", "s3cret")
    written = to_millis(NOW - timedelta(hours=1))
    thread = {"page_id": PAGE, "psid": PSID, "owner": OUR_APP, "last_user_message_at": written}

    async with (
        serve_graph(GraphConfig(app_id=OUR_APP), seed=1, clock=lambda: NOW, port=0, webhook=webhook) as port,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as http,
    ):
        await http.put("/_simulator/conversations", json=[thread])
        for text in ("first", "second"):
            message = {"recipient": {"id": PSID}, "messaging_type": "RESPONSE", "message": {"text": text}}
            await http.post(f"/v25.0/{PAGE}/messages", json=message, headers={"Authorization": "Bearer t0ken"})
        with anyio.fail_after(5):
            await all_in.wait()

    assert echoed == ["first", "second"]


async def test_an_app_whose_webhook_is_known_is_subscribed_there_with_every_field() -> None:
    page = PageId(PAGE)
    config = GraphConfig(app_id=OUR_APP, page_tokens={page: "t0ken"})
    webhook = Poster(httpx.AsyncClient(), "http://127.0.0.1:1/hook", "s3cret")

    async with (
        serve_graph(config, seed=1, clock=lambda: NOW, port=0, webhook=webhook) as port,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", headers={"Authorization": "Bearer t0ken"}) as http,
    ):
        app = (await http.get(f"/v25.0/{OUR_APP}/subscriptions")).json()["data"][0]
        subscribed = (await http.get(f"/v25.0/{page}/subscribed_apps")).json()["data"][0]["subscribed_fields"]

    assert app["callback_url"] == "http://127.0.0.1:1/hook"
    assert {field["name"] for field in app["fields"]} == set(WEBHOOK_FIELDS) == set(subscribed)
