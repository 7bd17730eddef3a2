"""A fake Meta whose clock the test moves, and a client that reaches it without a socket."""

import random
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from messenger.events import AppId, PageId, Psid
from simulator.graph import create_graph
from simulator.threads import Line, ThreadNews
from simulator.world import GraphConfig, World

NOW = datetime(2026, 5, 5, 12, tzinfo=UTC)
OUR_APP = AppId("900100200300400")
OTHER_APP = AppId("900100200300401")
PAGE = PageId("102030405060708")
PSID = Psid("7001002003004005")


@dataclass
class Meta:
    """The fake with one thread, which is ours and in which the person wrote an hour ago."""

    now: datetime = NOW
    webhooks: list[bytes] = field(default_factory=list)
    world: World = field(init=False)
    http: httpx.AsyncClient = field(init=False)

    def __post_init__(self) -> None:
        self.world = World(GraphConfig(app_id=OUR_APP, app_secret="s3cret"), random.Random(1), self.webhooks.append)
        transport = httpx.ASGITransport(create_graph(self.world, lambda: self.now))
        self.http = httpx.AsyncClient(transport=transport, base_url="http://graph.test")
        self.know(owner=OUR_APP, last_user_message_at=NOW - timedelta(hours=1))

    def configure(self, **changes: object) -> None:
        self.world.config = replace(self.world.config, **changes)  # type: ignore[arg-type]

    def know(
        self,
        *,
        owner: AppId | None,
        last_user_message_at: datetime | None = None,
        lines: tuple[Line, ...] = (),
        unavailable: bool = False,
    ) -> None:
        news = ThreadNews(
            page_id=PAGE,
            psid=PSID,
            owner=owner,
            last_user_message_at=last_user_message_at,
            unavailable=unavailable,
            lines=lines,
        )
        self.world.threads.learn([news], self.now)

    async def get(self, path: str, **params: str) -> httpx.Response:
        return await self.http.get(path, params={"access_token": "t0ken", **params})

    async def post(self, path: str, body: Mapping[str, object], token: str = "t0ken") -> httpx.Response:
        return await self.http.post(path, json=body, headers={"Authorization": f"Bearer {token}"})

    async def send(self, message: Mapping[str, object] | None = None, /, **params: object) -> httpx.Response:
        body = {"recipient": {"id": PSID}, "messaging_type": "RESPONSE", "message": message or {"text": "Thanks!"}}
        return await self.post(f"/v25.0/{PAGE}/messages", {**body, **params})

    async def route(self, action: str, **params: object) -> httpx.Response:
        return await self.post(f"/v25.0/{PAGE}/{action}_thread_control", {"recipient": {"id": PSID}, **params})


def code_of(response: httpx.Response) -> tuple[int, int | None]:
    """Code and subcode of a refusal in Meta's JSON shape."""
    error = response.json()["error"]
    assert error["type"] == "OAuthException"
    assert error["message"]
    assert error["fbtrace_id"].startswith("A")
    return error["code"], error.get("error_subcode")


@pytest.fixture
async def meta() -> AsyncIterator[Meta]:
    fake = Meta()
    async with fake.http:
        yield fake
