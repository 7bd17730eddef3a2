"""How long a lead takes from the POST of its webhook to its record in `leads`, on an idle machine."""

import asyncio
from datetime import UTC, datetime
from statistics import quantiles
from time import perf_counter

import httpx
import pytest

from messenger.events import Psid
from runtime import kafka
from runtime.cluster import cluster_of
from schemas.codec import lead_codec
from schemas.topics import LEADS
from tests.benchmarks.conftest import Note
from tests.e2e.pipeline import Pipeline
from tests.e2e.test_pipeline import post, signals_of

pytestmark = [pytest.mark.anyio, pytest.mark.benchmark]

_WARM_UP = 10
_COUNTED = 100


async def test_post_to_lead(pipeline: Pipeline, note: Note) -> None:
    arrived: dict[str, asyncio.Future[float]] = {}
    took: list[float] = []
    consumer = kafka.consumer(
        cluster_of(pipeline.settings), pipeline.settings.topic(LEADS.name), group=None, client_id="bench"
    )
    await consumer.start()
    await consumer.seek_to_end()

    async def watch() -> None:
        codec = lead_codec()
        async for record in consumer:
            first_revision = arrived.pop(codec.decode(record.value).psid, None)
            if first_revision is not None:
                first_revision.set_result(perf_counter())

    watching = asyncio.create_task(watch())
    async with httpx.AsyncClient() as http:
        for number in range(_WARM_UP + _COUNTED):
            psid = Psid(f"73000000000{number:04}")
            body = signals_of(psid, datetime.now(UTC))["referral"]
            seen = arrived[psid] = asyncio.get_running_loop().create_future()
            posted_at = perf_counter()
            await post(http, pipeline, body)
            took.append(await seen - posted_at)
            await asyncio.sleep(0.05)
    watching.cancel()
    await asyncio.wait([watching])
    await consumer.stop()

    millis = [seconds * 1000 for seconds in took[_WARM_UP:]]
    cuts = quantiles(millis, n=100)
    note(
        "POST of a webhook → its lead in `leads`, idle machine, one at a time",
        f"median {cuts[49]:.0f} ms, p95 {cuts[94]:.0f} ms, slowest {max(millis):.0f} ms of {_COUNTED}",
    )
