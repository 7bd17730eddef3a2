"""Where the pages get their data and carry out actions: the functions of the commands, for one deployment."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import httpx

from console.numbers import Numbers, OutcomeCount, read_numbers, read_outcomes
from operations.deployment import Deployment, require_broker
from operations.local.stack import BACKFILL_PORT, CANARY_PORT, DOCTOR_PORT
from operations.stage_states import StageState, look_at_stages, stages_of_up
from runtime.clock import now
from runtime.loopback import NO_PROXY
from runtime.settings import Settings
from schemas.registry_client import find_ids


def stages_beside(settings: Settings) -> dict[str, str]:
    """The admin ports of the processes of `leadstream up`, as this console looks at them."""
    lookouts = {"doctor": DOCTOR_PORT, "backfill": BACKFILL_PORT, "canary": CANARY_PORT}
    ports = {name: settings.admin_url(settings.admin_port + offset) for name, offset in lookouts.items()}
    return stages_of_up(settings) | ports


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
        return await asyncio.to_thread(read_numbers, self.settings.warehouse, now())

    async def outcomes(self) -> list[OutcomeCount]:
        return await asyncio.to_thread(read_outcomes, self.settings.warehouse)

    async def close(self) -> None:
        await self._http.aclose()
