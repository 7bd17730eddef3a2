"""A console over made data, and a browser without a window."""

import re
from collections.abc import Collection, Sequence
from typing import Any

import httpx
from starlette.types import ASGIApp

from console.app import create_console
from console.lead_list import Search
from console.live import Live
from console.numbers import Numbers, OutcomeCount
from console.site import Site
from console.sources import Sources
from leads.facts import LeadPromoted
from operations.dead_letters.letters import Discard, Letter, Wanted
from operations.dead_letters.redrive import Selection
from operations.explain.timeline import Timeline
from operations.replay import ReplayState
from operations.reporting import OperationError, Progress
from operations.stage_states import StageState
from runtime.health import Health
from runtime.settings import Settings
from streams.replay.promotion import Settled
from streams.replay.shadow import Comparison, Reading

BASE = "http://127.0.0.1:8008"
TOKEN = "a-token-of-sixteen"
HTML = {"Accept": "text/html"}


class FakeSources(Sources):
    """Data as a test gives it by the name of a method; a fault among them is raised."""

    def __init__(self, page_ids: Collection[str] = (), **given: Any) -> None:
        super().__init__(Settings(), {}, tuple(page_ids))
        self.given = given
        self.done: list[tuple[str, list[str]]] = []
        self.asked: list[Search] = []

    async def states(self) -> list[StageState]:
        states: list[StageState] = self._value("states", [])
        return states

    async def numbers(self) -> Numbers:
        numbers: Numbers = self._value("numbers", Numbers({}, {}, {}, {}, {}))
        return numbers

    async def outcomes(self) -> list[OutcomeCount]:
        outcomes: list[OutcomeCount] = self._value("outcomes", [])
        return outcomes

    async def letters(self) -> Selection:
        return await self.find_letters(Wanted())

    async def find_letters(self, wanted: Wanted) -> Selection:
        found: Selection = self._value("letters", Selection((), {}))
        some = tuple((letter, standing) for letter, standing in found.letters if wanted.takes(letter))
        if wanted.ids and not some:
            raise OperationError("there is no such dead letter")
        return Selection(some, found.discards)

    async def send_back(self, letters: Sequence[Letter], progress: Progress) -> None:
        self.done.append(("sent back", [letter.id for letter in letters]))

    async def close_letters(self, letters: Sequence[Letter], discard: Discard | None, progress: Progress) -> None:
        how = "reopened" if discard is None else f"discarded by {discard.by}: {discard.because}"
        self.done.append((how, [letter.id for letter in letters]))

    async def explain(self, subject: str, progress: Progress) -> Timeline:
        timeline: Timeline = self._value("timeline", None)
        return timeline

    def leads(self, search: Search) -> list[dict[str, Any]]:
        self.asked.append(search)
        leads: list[dict[str, Any]] = self._value("leads", [])
        return leads

    def outcomes_of(self, status: str, reason: str) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = self._value("outcomes_of", [])
        return rows

    async def replays(self) -> list[ReplayState]:
        replays: list[ReplayState] = self._value("replays", [])
        return replays

    async def compare_replay(self, name: str) -> tuple[Comparison, Reading, Reading]:
        found: tuple[Comparison, Reading, Reading] = self._value("comparison", None)
        return found

    async def find_promotions(self, name: str) -> tuple[Comparison, list[LeadPromoted], Reading]:
        found: tuple[Comparison, list[LeadPromoted], Reading] = self._value("promotions", None)
        return found

    async def promote(self, facts: Sequence[LeadPromoted], live: Reading, progress: Progress) -> Settled:
        self.done.append(("promoted", [fact.event_id for fact in facts]))
        return Settled({fact.state.lead.lead_id for fact in facts})

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
