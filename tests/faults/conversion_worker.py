"""The conversions sink as its fault test torments it: it kills itself at a named point, and its clock may be wrong.

Run as `python -m tests.faults.conversion_worker`; the arguments are the fields of `SendJob`.
"""

import asyncio
import random
import signal
from contextlib import AsyncExitStack
from datetime import datetime, timedelta

import httpx

from leads.pages import ConversionSettings, Page, Pages
from operations.deployment import Deployment
from runtime import kafka
from runtime.clock import now
from runtime.cluster import Cluster
from runtime.health import Health
from runtime.metrics import Metrics
from runtime.reach import Reach
from runtime.settings import Settings
from schemas.codec import conversion_codec, lead_codec, stage_codec
from schemas.topics import CONVERSIONS, LEADS, STAGES
from sinks.consume import Consume, Source
from sinks.conversions.conversion import Input, lead_reader, stage_reader
from sinks.conversions.courier import ConversionCourier, ConversionLimits
from sinks.conversions.ledger import ConversionLedger
from sinks.conversions.sink import ConversionSink
from sinks.send.broker_clock import BrokerTime
from tests.faults.send_worker import FailingGraph, FailingLog, Failpoint, SendJob, failing_consumer, page_of, run
from tests.integration.topics import connected

# Small calls, so that there are many of them to go wrong.
LIMITS = ConversionLimits(
    calls_per_second=40,
    concurrent_calls=16,
    events_per_call=8,
    call_timeout=timedelta(seconds=4),
    page_pause=timedelta(seconds=5),
)


def data_set_of(number: int) -> str:
    return f"77{number:06}"


async def work(job: SendJob) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    settings = Settings(broker=job.broker, topic_prefix=job.prefix, partitions=job.partitions)
    failpoint, metrics = Failpoint(job.failpoint), Metrics()
    leads, stages, outcomes = (settings.topic(topic.name) for topic in (LEADS, STAGES, CONVERSIONS))

    def wrong_clock() -> datetime:
        return now() + timedelta(seconds=job.ahead)

    async with AsyncExitStack() as stack:
        producer = await stack.enter_async_context(
            connected(kafka.producer(Cluster(job.broker), client_id="conversions", linger_ms=0))
        )
        reader = await stack.enter_async_context(
            connected(kafka.consumer(Cluster(job.broker), group=None, client_id="ledger"))
        )
        consumer = await stack.enter_async_context(connected(failing_consumer(job, failpoint, "conversions")))
        http = await stack.enter_async_context(httpx.AsyncClient())
        deployment = Deployment(settings, Cluster(job.broker))
        erasures, catch_up = await stack.enter_async_context(deployment.followed_erasures())
        clock = BrokerTime(wrong_clock)
        log = FailingLog(failpoint, conversion_codec(), outcomes, reader, producer)
        courier = ConversionCourier(
            ConversionLedger(log, conversion_codec(), clock),
            FailingGraph(failpoint, "events", job.graph_url, "v25.0", http, None, timeout=LIMITS.call_timeout),
            Pages(
                Page(page_of(number), conversions=ConversionSettings(data_set_of(number), access_token="t"))
                for number in range(job.pages)
            ),
            clock=clock,
            fraction=random.random,
            metrics=metrics,
            limits=LIMITS,
            partitions=job.partitions,
            erasures=erasures,
            catch_up=catch_up,
        )
        sources: dict[str, Source[Input]] = {
            leads: Source(lead_reader(lead_codec()), f"{leads}-dlq"),
            stages: Source(stage_reader(stage_codec(), job.partitions), f"{stages}-dlq"),
        }
        sink = ConversionSink(courier)
        await Consume(
            consumer, producer, sources, sink, name="conversions", metrics=metrics, health=Health(), reach=Reach(None)
        ).run(stop)


if __name__ == "__main__":
    run(work)
