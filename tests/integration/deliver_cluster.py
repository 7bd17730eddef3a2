"""`sink deliver` as it is put together for operators, run inside a test on a real Kafka with short pauses."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import yaml

from leads.records import FollowUpOutcome, Lead
from messenger.client import CALL_TIMEOUT
from operations.deployment import Deployment
from operations.stages.deliver import deliver
from operations.stages.process import SinkProcess
from runtime.health import Health
from runtime.losses import NOTHING
from runtime.metrics import Metrics
from runtime.settings import Settings
from runtime.tracing import OFF
from schemas.codec import lead_codec, outcome_codec
from schemas.topics import DELIVERIES, LEADS, OUTCOMES
from sinks.deliver.next_step import DeliverLimits
from sinks.deliver.records import Entry, entry_of
from tests.faults import lab
from tests.integration.topics import put, records_of
from tests.receiver import SECRET, Receiver

eventually = partial(lab.eventually, within=60)
# Deliveries that fail come again for a minute, so that none is given up while a test sets the scene.
LIMITS = DeliverLimits(
    schedule=tuple(timedelta(seconds=seconds) for seconds in (0.1, 0.2, 0.4, 0.8, *[1] * 60)),
    first_pause=timedelta(seconds=0.1),
    longest_pause=timedelta(seconds=0.5),
    longest_wait=timedelta(seconds=2),
    call_timeout=timedelta(seconds=1),
)


def a_destination(name: str, receiver: Receiver, **keys: Any) -> dict[str, Any]:
    """An entry of destinations.yaml."""
    url = f"http://127.0.0.1:{receiver.port}/{name}"
    return {"name": name, "url": url, "secret": SECRET, "allow_private": True, **keys}


@dataclass(slots=True)
class DeliverCluster:
    """The topics of one test, and a destinations.yaml in `home`."""

    settings: Settings
    home: Path

    def __post_init__(self) -> None:
        self.settings = replace(self.settings, destinations=self.home / "destinations.yaml")

    def write(self, destinations: Sequence[Mapping[str, Any]]) -> None:
        text = yaml.safe_dump({"destinations": list(destinations)}, allow_unicode=True)
        self.settings.destinations.write_text(text, encoding="utf-8")

    @asynccontextmanager
    async def sink(self, *destinations: Mapping[str, Any], limits: DeliverLimits = LIMITS) -> AsyncIterator[Metrics]:
        """A sink that runs until the block ends, then stops as on SIGTERM; it has opened its partitions."""
        if destinations:
            self.write(destinations)
        deployment = await asyncio.to_thread(Deployment.of, self.settings)
        stop, metrics, health = asyncio.Event(), Metrics(), Health()
        async with AsyncExitStack() as stack:
            process = SinkProcess(deployment, "deliver", (), NOTHING, CALL_TIMEOUT, metrics, health, stop, stack, OFF)
            task = asyncio.create_task(deliver(process, limits))
            try:
                await eventually(lambda: task.done() or (health.parts.get("deliver", (False, ""))[0]))
                if task.done():
                    task.result()
                yield metrics
            finally:
                stop.set()
                await task

    async def put_leads(self, *leads: Lead) -> None:
        codec = lead_codec()
        records = [(lead.lead_id.encode(), codec.encode(lead)) for lead in leads]
        await put(self.settings, self.settings.topic(LEADS.name), *records)

    async def put_outcomes(self, *outcomes: FollowUpOutcome) -> None:
        codec = outcome_codec()
        records = [(outcome.command_id.encode(), codec.encode(outcome)) for outcome in outcomes]
        await put(self.settings, self.settings.topic(OUTCOMES.name), *records)

    async def entries(self) -> list[Entry]:
        """The entries of the ledger, each partition in its order."""
        records = await records_of(self.settings, self.settings.topic(DELIVERIES.name))
        return [entry for entry in map(entry_of, records) if entry is not None]


def revisions_in(receiver: Receiver) -> list[tuple[str, int]]:
    """The deliveries that were taken, as lead and revision."""
    taken = [msgspec.json.decode(post.body)["data"] for post in receiver.taken]
    return [(data["lead_id"], data["revision"]) for data in taken]
