"""The send sink as the fault tests torment it: it kills itself at a named point, and its clock may be wrong.

Run as `python -m tests.faults.send_worker`; the arguments are the fields of `SendJob`.
"""

import random
from datetime import timedelta

from leads.pages import Page, Pages
from schemas.codec import command_codec, event_codec, outcome_codec
from schemas.topics import COMMANDS, EVENTS, OUTCOMES
from sinks.consume import Source
from sinks.send.courier import Courier
from sinks.send.ledger import Ledger
from sinks.send.lookahead import Ahead
from sinks.send.pace import SendLimits
from sinks.send.readers import Input, command_reader, event_reader
from sinks.send.sink import SendSink
from tests.faults.rig import OUR_APP, SendJob, page_of, rigged, run
from tests.unit.sinks.fakes import JoinedUpToNow

LIMITS = SendLimits(
    sends_per_second=40,
    look_ups_per_second=1.5,
    concurrent_calls=64,
    call_timeout=timedelta(seconds=4),
    quarantine=timedelta(seconds=8),
    ask_owner_after=timedelta(seconds=20),
    page_pause=timedelta(seconds=5),
)


def pages_of(count: int) -> Pages:
    return Pages(Page(page_of(number), access_token="t", target_app=OUR_APP) for number in range(count))


async def work(job: SendJob) -> None:
    async with rigged(job, "send") as rig:
        commands, events = rig.topic(COMMANDS), rig.topic(EVENTS)
        courier = Courier(
            Ledger(rig.log(OUTCOMES, outcome_codec()), outcome_codec(), rig.clock),
            rig.graph("messages", LIMITS.call_timeout),
            pages_of(job.pages),
            clock=rig.clock,
            fraction=random.random,
            metrics=rig.metrics,
            limits=LIMITS,
            partitions=job.partitions,
        )
        sink = SendSink(courier, Ahead(rig.reader, command_codec()), commands=commands, join=JoinedUpToNow())
        sources: dict[str, Source[Input]] = {
            commands: Source(command_reader(command_codec(), job.partitions), f"{commands}-dlq"),
            events: Source(event_reader(event_codec()), f"{events}-dlq"),
        }
        await rig.consume(sources, sink)


if __name__ == "__main__":
    run(work)
