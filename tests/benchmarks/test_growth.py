"""The cost of a person and of an event as people and workers become more: the join alone, on a real Kafka.

Everybody has an open lead whose summary is waited for. The changelog holds them before the worker starts, one record
each, so that a million need not first be joined.
"""

import asyncio
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path
from time import perf_counter
from typing import NamedTuple
from uuid import UUID

import pytest
from msgspec.structs import replace

from leads.pages import Pages
from leads.records import Lead
from leads.rules import Policy
from messenger.events import PlatformEvent, Psid, person_key
from runtime import kafka
from runtime.clock import now, to_millis
from runtime.cluster import cluster_of
from runtime.settings import Settings
from schemas.codec import event_codec
from schemas.topics import EVENTS, JOIN_STATE, LEADS
from streams.join import Batch, PartitionJoin
from tests.benchmarks.conftest import Note
from tests.benchmarks.lane import Record, cpu_seconds, fill, halves, lane, read, running, stopped
from tests.benchmarks.load import SIGNALS, joinable, progress
from tests.builders import MINUTE, NOON, PAGE, PERSON, a_handover, a_message, a_referral, a_summary, an_origin
from tests.integration.topics import connected

pytestmark = [pytest.mark.anyio, pytest.mark.benchmark]

PARTITIONS = 8
POPULATIONS = (10_000, 100_000, 1_000_000)
# So many of them are busy, whatever the population.
BUSY = 10_000
WORKERS = (1, 2, 4)
CROWD = 12_000
_REVISIONS = 3
# A process that has written so much of its outputs will soon be idle.
_NEARLY_ALL = 0.99
_IDLE_AFTER = 1.0
_JOIN = (sys.executable, "-m", "tests.benchmarks.contender", "join")
_PAGE_SIZE = os.sysconf("SC_PAGE_SIZE")
_LATER = NOON + 2 * MINUTE


class Grown(NamedTuple):
    """Seconds from the start of the process to its first lead, seconds of reading the changelog, bytes in memory once
    all partitions are at work, and processor time an event."""

    first_lead: float
    recovery: float
    memory: int
    an_event: float


async def test_cost_of_an_event_and_of_a_person(kafka_broker: str, note: Note) -> None:
    nobody = await _grown(kafka_broker, 0)
    note("join, nobody known", f"{nobody.memory / 1e6:,.0f} MB, first lead after {nobody.first_lead:.1f} s")
    few = await _grown(kafka_broker, POPULATIONS[0])
    for people in POPULATIONS:
        grown = few if people == POPULATIONS[0] else await _grown(kafka_broker, people)
        # Both hold the same beside the people, such as fetched records.
        more = people - POPULATIONS[0]
        a_person = f", {(grown.memory - few.memory) / more:,.0f} bytes for each person more" if more else ""
        note(
            f"join, {people:,} people, each with an open lead of {len(_STATE):,} bytes",
            f"{grown.an_event * 1e6:,.0f} µs of processor time an event, {grown.an_event / few.an_event:.2f} of that "
            f"of {POPULATIONS[0]:,}; {grown.memory / 1e6:,.0f} MB{a_person}; changelog read in {grown.recovery:.1f} s, "
            f"first lead {grown.first_lead:.1f} s after the start",
        )


@pytest.mark.parametrize("workers", WORKERS)
async def test_more_workers(kafka_broker: str, note: Note, workers: int) -> None:
    """As in the comparison of the stream layer: half of the load to warm up, and the other half at once."""
    settings = Settings(
        broker=kafka_broker, topic_prefix=f"bench-{os.getpid()}-{workers}-workers-", partitions=PARTITIONS
    )
    encode = event_codec().encode
    events = [(key, encode(event)) for key, event in joinable(CROWD, raw_partitions=PARTITIONS)]
    first_half, second_half = halves(events, CROWD * SIGNALS // 2)
    outputs = CROWD * _REVISIONS // 2
    consumer = kafka.consumer(cluster_of(settings), settings.topic(LEADS.name), group=None, client_id="bench")
    async with lane(settings, timed=LEADS), connected(consumer), AsyncExitStack() as stack:
        processes = [await stack.enter_async_context(running(settings, *_JOIN)) for _ in range(workers)]
        for process in processes:
            assert process.stdout is not None
            await process.stdout.readline()
        await fill(settings, EVENTS, first_half)
        warm = await read(consumer, int(outputs * _NEARLY_ALL), *processes)
        await asyncio.sleep(_IDLE_AFTER)
        async with stopped(*processes):
            await fill(settings, EVENTS, second_half)
            before = [cpu_seconds(process.pid) for process in processes]
            began_at = perf_counter()
        await read(consumer, 2 * outputs - warm, *processes)
        seconds = perf_counter() - began_at
        cpu = [cpu_seconds(process.pid) - spent for process, spent in zip(processes, before, strict=True)]
    inputs = CROWD * SIGNALS / 2
    note(
        f"join, {workers} workers on {PARTITIONS} partitions, {os.cpu_count()} cores",
        f"{inputs / seconds:,.0f} events a second; {sum(cpu) / inputs * 1e6:,.0f} µs of processor time an event, "
        f"the least of a worker {min(cpu) / sum(cpu):.0%} of all, the most {max(cpu) / sum(cpu):.0%}",
    )


async def _grown(broker: str, people: int) -> Grown:
    settings = Settings(broker=broker, topic_prefix=f"bench-{os.getpid()}-grown-{people}-", partitions=PARTITIONS)
    busy = range(0, people, people // BUSY) if people else range(BUSY // 100)
    async with lane(settings, timed=LEADS):
        await fill(settings, JOIN_STATE, map(_known, range(people)))
        # A person's state remembers the offsets of the records behind it, so new ones must be greater.
        await fill(settings, EVENTS, [(None, _PROGRESS)] * len(_SIGNALS))
        await fill(settings, EVENTS, _encoded(busy, [a_summary(_LATER)] if people else _SIGNALS))
        consumer = kafka.consumer(cluster_of(settings), settings.topic(LEADS.name), group=None, client_id="bench")
        async with connected(consumer):
            started_at = perf_counter()
            async with running(settings, *_JOIN) as process:
                warm = await read(consumer, 1, process)
                first_lead = perf_counter() - started_at
                await read(consumer, (1 if people else 2) * len(busy) - warm, process)
                assert process.stdout is not None
                recovered, recovery = (await process.stdout.readline()).split()
                assert int(recovered) == people
                await asyncio.sleep(_IDLE_AFTER)
                memory = _resident_bytes(process.pid)
                flow: list[PlatformEvent] = [
                    a_message(_LATER, mid="m_2"),
                    a_handover(_LATER),
                    a_referral(_LATER, ad_id="120210000000000002"),
                ]
                events = list(_encoded(busy, flow))
                async with stopped(process):
                    await fill(settings, EVENTS, events)
                    before = cpu_seconds(process.pid)
                await read(consumer, 2 * len(busy), process)
                an_event = (cpu_seconds(process.pid) - before) / (len(flow) * len(busy))
    return Grown(first_lead, float(recovery), memory, an_event)


def _encoded(people: Sequence[int], events: Sequence[PlatformEvent]) -> Iterator[Record]:
    """The event of each person, then the next event of each; and progress behind them."""
    encode = event_codec().encode
    received_at = _LATER
    for event in events:
        for number in people:
            received_at += timedelta(milliseconds=1)
            psid = _psid(number)
            its = replace(event, psid=psid, received_at=received_at, origin=an_origin())
            yield person_key(PAGE, psid).encode(), encode(its)
    yield None, encode(progress(received_at + timedelta(seconds=1), PARTITIONS))


def _psid(number: int) -> Psid:
    return Psid(f"84{number:014}")


class _Read(NamedTuple):
    """An event as the join reads it."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes
    headers: tuple[()] = ()


def _an_open_lead() -> tuple[bytes, bytes, bytes]:
    """Key and state of somebody whose summary is waited for, as the join encodes them, and the id of the lead."""
    batch = Batch(PartitionJoin({}, lambda page_id: Policy(Pages().get(page_id), ()), Settings(partitions=PARTITIONS)))
    values = [*map(event_codec().encode, _SIGNALS), _PROGRESS]
    records = [_Read(EVENTS.name, 0, offset, to_millis(now()), None, value) for offset, value in enumerate(values)]
    leads = [output for output in batch.advance(batch.order(batch.decode(records))) if isinstance(output, Lead)]
    ((key, state),) = batch.take_changes()
    assert state is not None
    return key.encode(), state, leads[-1].lead_id.encode()


def _known(number: int) -> Record:
    """The same of another person, with a lead of their own."""
    psid = _psid(number).encode()
    state = _STATE.replace(PERSON.encode(), psid).replace(_LEAD_ID, str(UUID(int=number)).encode())
    return _KEY.replace(PERSON.encode(), psid), state


def _resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE_SIZE


_SIGNALS: list[PlatformEvent] = [a_message(), a_handover(), a_referral()]
_PROGRESS = event_codec().encode(progress(NOON + MINUTE, PARTITIONS))
_KEY, _STATE, _LEAD_ID = _an_open_lead()
