"""The conversions sink as its fault test torments it: it kills itself at a named point, and its clock may be wrong.

Run as `python -m tests.faults.conversion_worker`; the arguments are the fields of `SendJob`.
"""

import random
from datetime import timedelta

from leads.pages import ConversionSettings, Page, Pages
from operations.deployment import Deployment
from runtime.cluster import Cluster
from schemas.codec import conversion_codec, lead_codec, stage_codec
from schemas.topics import CONVERSIONS, LEADS, STAGES
from sinks.consume import Source
from sinks.conversions.conversion import Input, lead_reader, stage_reader
from sinks.conversions.courier import ConversionCourier, ConversionLimits
from sinks.conversions.ledger import ConversionLedger
from sinks.conversions.sink import ConversionSink
from tests.faults.rig import SendJob, page_of, rigged, run

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
    async with (
        rigged(job, "conversions") as rig,
        Deployment(rig.settings, Cluster(job.broker)).followed_erasures() as (erasures, catch_up),
    ):
        leads, stages = rig.topic(LEADS), rig.topic(STAGES)
        courier = ConversionCourier(
            ConversionLedger(rig.log(CONVERSIONS, conversion_codec()), conversion_codec(), rig.clock),
            rig.graph("events", LIMITS.call_timeout),
            Pages(
                Page(page_of(number), conversions=ConversionSettings(data_set_of(number), access_token="t"))
                for number in range(job.pages)
            ),
            clock=rig.clock,
            fraction=random.random,
            metrics=rig.metrics,
            limits=LIMITS,
            partitions=job.partitions,
            erasures=erasures,
            catch_up=catch_up,
        )
        sources: dict[str, Source[Input]] = {
            leads: Source(lead_reader(lead_codec()), f"{leads}-dlq"),
            stages: Source(stage_reader(stage_codec(), job.partitions), f"{stages}-dlq"),
        }
        await rig.consume(sources, ConversionSink(courier))


if __name__ == "__main__":
    run(work)
