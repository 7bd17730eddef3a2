"""`sink deliver` as its fault test torments it: as it is for operators, but for time, which runs 360 times as fast.

Run as `python -m tests.faults.deliver_worker BROKER PREFIX PARTITIONS DESTINATIONS`.
"""

import asyncio
import sys
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path

from messenger.client import CALL_TIMEOUT
from operations.deployment import Deployment
from operations.stages.deliver import deliver
from operations.stages.process import SinkProcess
from runtime.health import Health
from runtime.losses import NOTHING
from runtime.metrics import Metrics
from runtime.settings import Settings
from runtime.stopping import stop_at_signals
from runtime.tracing import OFF
from sinks.deliver.next_step import SCHEDULE, DeliverLimits

FASTER = 360
HOUR = 3600 / FASTER
LIMITS = DeliverLimits(
    schedule=tuple(pause / FASTER for pause in SCHEDULE),
    first_pause=timedelta(seconds=0.2),
    longest_pause=timedelta(minutes=15) / FASTER,
    call_timeout=timedelta(seconds=2),
)


async def work(settings: Settings, deployment: Deployment) -> None:
    async with AsyncExitStack() as stack:
        given = (deployment, "deliver", (), NOTHING, CALL_TIMEOUT)
        process = SinkProcess(*given, Metrics(), Health(), stop_at_signals(), stack, OFF)
        await deliver(process, LIMITS)


if __name__ == "__main__":
    broker, prefix, partitions, destinations = sys.argv[1:]
    ours = Settings(broker=broker, topic_prefix=prefix, partitions=int(partitions), destinations=Path(destinations))
    asyncio.run(work(ours, Deployment.of(ours)))
