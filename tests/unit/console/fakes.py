"""A console over made data, and a browser without a window."""

import re
from collections.abc import Collection
from typing import Any

import httpx
from starlette.types import ASGIApp

from console.app import create_console
from console.live import Live
from console.numbers import Numbers, OutcomeCount
from console.site import Site
from console.sources import Sources
from operations.stage_states import StageState
from runtime.health import Health
from runtime.settings import Settings

BASE = "http://127.0.0.1:8008"
TOKEN = "a-token-of-sixteen"
HTML = {"Accept": "text/html"}


class FakeSources(Sources):
    """Data as a test gives it by the name of a method; a fault among them is raised."""

    def __init__(self, page_ids: Collection[str] = (), **given: Any) -> None:
        super().__init__(Settings(), {}, tuple(page_ids))
        self.given = given

    async def states(self) -> list[StageState]:
        states: list[StageState] = self._value("states", [])
        return states

    async def numbers(self) -> Numbers:
        numbers: Numbers = self._value("numbers", Numbers({}, {}, {}, {}))
        return numbers

    async def outcomes(self) -> list[OutcomeCount]:
        outcomes: list[OutcomeCount] = self._value("outcomes", [])
        return outcomes

    def _value(self, name: str, default: Any) -> Any:
        value = self.given.get(name, default)
        if isinstance(value, Exception):
            raise value
        return value


def a_site(sources: Sources | None = None, *, token: str | None = None) -> Site:
    return Site(sources or FakeSources(), needs_token=token is not None)


def an_app(site: Site, *, token: str | None = None, hosts: Collection[str] = ()) -> ASGIApp:
    health = Health()
    health.report("console", ready=True)
    return create_console(site, Live(site.changes), health, token=token, hosts=hosts)


def a_browser(app: ASGIApp) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url=BASE, headers=HTML)


def form_token(page: httpx.Response) -> str:
    """The token in the forms of a page."""
    match = re.search(r'name="csrf" value="([0-9a-f]+)"', page.text)
    assert match is not None, page.text
    return match[1]
