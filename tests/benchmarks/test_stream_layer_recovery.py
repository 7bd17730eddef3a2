"""Taking over 100,000 people: how long until the first output, and how much memory they are."""

import asyncio
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter

import pytest

from leads.person import Person
from leads.shard import Shard
from runtime import kafka
from runtime.cluster import cluster_of
from runtime.settings import Settings
from schemas.codec import event_codec
from schemas.topics import EVENTS, JOIN_STATE, LEADS
from streams import state
from tests.benchmarks.conftest import Note
from tests.benchmarks.contender import policy_of
from tests.benchmarks.lane import Record, fill, lane, running
from tests.benchmarks.load import joinable
from tests.integration.topics import connected

pytestmark = [pytest.mark.anyio, pytest.mark.benchmark]

PARTITIONS = 4
PEOPLE = 100_000
_PAGE_SIZE = os.sysconf("SC_PAGE_SIZE")


async def test_taking_over_a_hundred_thousand_people(kafka_broker: str, note: Note) -> None:
    nobody = await _restarted(kafka_broker, 0)
    everybody = await _restarted(kafka_broker, PEOPLE)

    keys_a_second = PEOPLE / everybody["recovery"]
    note(f"recovery of {PEOPLE:,} people", f"{everybody['recovery']:.1f} s, {keys_a_second:,.0f} keys a second")
    note(
        "from the start of the process to its first lead",
        f"{everybody['first_output']:.1f} s with {PEOPLE:,} people, {nobody['first_output']:.1f} s with none",
    )
    grown = (everybody["memory"] - nobody["memory"]) / PEOPLE
    note(
        f"memory of a worker with {PEOPLE:,} open people",
        f"{everybody['memory'] / 1e6:,.0f} MB; {grown:,.0f} bytes a person, {len(_TEMPLATE_STATE):,} of them encoded",
    )


async def _restarted(broker: str, people: int) -> dict[str, float]:
    settings = Settings(broker=broker, topic_prefix=f"bench-{os.getpid()}-take-over-{people}-", partitions=PARTITIONS)
    async with lane(settings, timed=LEADS):
        await fill(settings, JOIN_STATE, map(_an_open_person, range(people)))
        await fill(settings, EVENTS, _one_lead())
        started_at = perf_counter()
        async with running(settings, sys.executable, "-m", "tests.benchmarks.contender", "join") as process:
            await _first_record(settings.topic(LEADS.name), settings)
            first_output = perf_counter() - started_at
            assert process.stdout is not None
            recovered, took = (await process.stdout.readline()).split()
            memory = _resident_bytes(process.pid)
    assert int(recovered) == people
    return {"recovery": float(took), "first_output": first_output, "memory": memory}


def _resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE_SIZE


async def _first_record(topic: str, settings: Settings) -> None:
    async with (
        asyncio.timeout(120),
        connected(kafka.consumer(cluster_of(settings), topic, group=None, client_id="bench")) as consumer,
    ):
        await consumer.getone()


def _one_lead() -> Iterator[Record]:
    codec = event_codec()
    for key, event in joinable(1, raw_partitions=PARTITIONS):
        yield key, codec.encode(event)


def _an_open_person(number: int) -> Record:
    """Somebody whose handover and referral are in, and whose summary is waited for."""
    psid = f"84{number:014}"
    return f"{_TEMPLATE.page_id}:{psid}".encode(), _TEMPLATE_STATE.replace(_TEMPLATE.psid.encode(), psid.encode())


def _template() -> Person:
    people: dict[str, Person] = {}
    shard = Shard(people, policy_of, raw_partition_of=lambda _: 0)
    message, handover, referral, _, progress = (event for _, event in joinable(1, raw_partitions=PARTITIONS))
    shard.fold(enumerate((message, handover, referral, progress)))
    (person,) = people.values()
    return person


_TEMPLATE = _template()
_TEMPLATE_STATE = state.PEOPLE.encode(_TEMPLATE)
