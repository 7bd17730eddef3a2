"""Where the pages get their data and carry out actions: the functions of the commands, for one deployment."""

import asyncio
import os
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import httpx

from console.lead_list import Search, read_leads, read_outcomes_of
from console.numbers import Numbers, OutcomeCount, read_numbers, read_outcomes
from leads.facts import LeadPromoted
from operations.configuration import load_caps, load_pages, load_rules
from operations.dead_letters.letters import Discard, Letter, Wanted
from operations.dead_letters.redrive import Selection, close, find_letters, send_back
from operations.deployment import Deployment, require_broker
from operations.explain.run import explain
from operations.explain.timeline import Timeline
from operations.local.stack import BACKFILL_PORT, CANARY_PORT, DOCTOR_PORT, HAND_OFFS, hand_offs
from operations.replay import (
    ReplayState,
    Session,
    compare_replay,
    find_promotions,
    list_replays,
    promote,
    run_session,
)
from operations.reporting import Progress
from operations.stage_states import StageState, look_at_stages, stages_of_up
from runtime.clock import now
from runtime.loopback import NO_PROXY
from runtime.settings import Settings
from runtime.yaml_file import FileFault
from schemas.registry_client import find_ids
from streams.replay.promotion import Settled
from streams.replay.shadow import Comparison, Reading

_Result = TypeVar("_Result")


def stages_beside(settings: Settings) -> dict[str, str]:
    """The admin ports of the processes of `leadstream up`, as this console looks at them."""
    lookouts = {"doctor": DOCTOR_PORT, "backfill": BACKFILL_PORT, "canary": CANARY_PORT}
    ports = {name: settings.admin_url(settings.admin_port + offset) for name, offset in lookouts.items()}
    return stages_of_up(settings) | ports


def without_idle(stages: Mapping[str, str], settings: Settings) -> dict[str, str]:
    """The stages but for sinks that have nothing to hand on in this deployment: in containers a profile has them."""
    running = set(HAND_OFFS)
    with suppress(FileFault):  # which the doctor tells
        running = set(hand_offs(settings, os.environ))
    idle = {f"sink-{name}" for name in HAND_OFFS.keys() - running}
    return {name: url for name, url in stages.items() if name not in idle}


@dataclass(slots=True)
class Sources:
    """Each method raises what its command does; `page_ids` are the Pages of `pages.yaml`."""

    settings: Settings
    stages: Mapping[str, str]
    page_ids: Sequence[str] = ()
    _deployment: Deployment | None = None
    _http: httpx.AsyncClient = field(default_factory=lambda: httpx.AsyncClient(mounts=NO_PROXY))

    async def deployment(self) -> Deployment:
        """The deployment, with the ids of its schemas, found once Kafka and the registry are there."""
        if self._deployment is None:
            broker = require_broker(self.settings)
            self._deployment = Deployment(self.settings, broker, await find_ids(self.settings))
        return self._deployment

    async def states(self) -> list[StageState]:
        return await look_at_stages(self.stages, self._http)

    async def numbers(self) -> Numbers:
        return await asyncio.to_thread(read_numbers, self.settings.warehouse, now(), self.settings.spill)

    async def outcomes(self) -> list[OutcomeCount]:
        return await asyncio.to_thread(read_outcomes, self.settings.warehouse, self.settings.spill)

    def leads(self, search: Search) -> list[dict[str, Any]]:
        return read_leads(self.settings.warehouse, search, self.settings.spill)

    def outcomes_of(self, status: str, reason: str) -> list[dict[str, Any]]:
        return read_outcomes_of(self.settings.warehouse, status, reason, self.settings.spill)

    async def explain(self, subject: str, progress: Progress) -> Timeline:
        settings = self.settings
        pages, rules = load_pages(settings, os.environ, tokens=False), load_rules(settings, os.environ)
        caps = load_caps(settings, os.environ)
        return await explain(await self.deployment(), subject, pages, rules, caps, now(), progress)

    async def find_letters(self, wanted: Wanted) -> Selection:
        return await find_letters(await self.deployment(), wanted)

    async def letters(self) -> Selection:
        """Every dead letter, without its bytes: they may be many."""
        selection = await self.find_letters(Wanted())
        stripped = [
            (replace(letter, key=None, value=None, headers=[]), standing) for letter, standing in selection.letters
        ]
        return Selection(tuple(stripped), selection.discards)

    async def send_back(self, letters: Sequence[Letter], progress: Progress) -> None:
        await send_back(await self.deployment(), letters, progress)

    async def close_letters(self, letters: Sequence[Letter], discard: Discard | None, progress: Progress) -> None:
        await close(await self.deployment(), letters, discard, progress)

    async def replays(self) -> list[ReplayState]:
        return await list_replays(await self.deployment())

    async def compare_replay(self, name: str) -> tuple[Comparison, Reading, Reading]:
        return await self._in_session(lambda session: compare_replay(session, name))

    async def find_promotions(self, name: str) -> tuple[Comparison, list[LeadPromoted], Reading]:
        return await self._in_session(lambda session: find_promotions(session, name))

    async def promote(self, facts: Sequence[LeadPromoted], live: Reading, progress: Progress) -> Settled:
        return await self._in_session(lambda session: promote(session, facts, live, progress))

    async def _in_session(self, work: Callable[[Session], Coroutine[Any, Any, _Result]]) -> _Result:
        return await asyncio.to_thread(run_session, await self.deployment(), work)

    async def close(self) -> None:
        await self._http.aclose()
