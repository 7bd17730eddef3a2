"""The client on a real Kafka: what comes, what comes again, what is refused, and how it ends."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from subprocess import PIPE

import pytest
from aiokafka import TopicPartition
from msgspec.structs import replace

import leadstream
from operations.deployment import expected_topics
from runtime import kafka
from runtime.clock import now
from runtime.cluster import cluster_of
from runtime.kafka import partition_of
from runtime.local_kafka.node import KafkaNode
from runtime.settings import Settings
from runtime.topic_admin import apply_topics
from schemas.codec import command_codec, lead_codec, stage_codec
from tests.builders import a_lead
from tests.conftest import free_port
from tests.integration.topics import environ_of, put, records_of

pytestmark = pytest.mark.integration

LEAVES = """
import leadstream
with leadstream.Leads(group="crm") as leads, leadstream.Writer() as writer:
    print("open", flush=True)
    input()
print("left")
"""
HELLO = leadstream.FollowUpMessage("Hello")


@pytest.fixture
def environ(kafka_topics: Settings) -> dict[str, str]:
    return environ_of(kafka_topics)


@pytest.fixture
def group(topic_prefix: str) -> str:
    return f"{topic_prefix}crm"


def _put(settings: Settings, *names: str) -> None:
    """A record for each name; one of `gone-…` is an erasure, one of `bad-…` no lead."""
    asyncio.run(put(settings, settings.topic("leads"), *map(_record, names)))


def _record(name: str) -> tuple[bytes, bytes | None]:
    if name.startswith("gone-"):
        return name.encode(), None
    return name.encode(), b"Menlo Park" if name.startswith("bad-") else lead_codec().encode(a_lead(lead_id=name))


def _there(environ: dict[str, str], group: str | None = None, since: datetime | None = None) -> list[str]:
    with leadstream.Leads(group=group, since=since, follow=False, environ=environ) as leads:
        return sorted(record.lead_id for record in leads)


def test_all_is_read_with_its_offsets_and_an_erasure_is_no_lead(
    kafka_topics: Settings, environ: dict[str, str]
) -> None:
    _put(kafka_topics, "l1", "gone-l2", "l3")

    with leadstream.Leads(follow=False, environ=environ) as leads:
        records = list(leads)

    assert {record.lead_id: record.lead for record in records} == {
        "l1": a_lead(lead_id="l1"),
        "gone-l2": None,
        "l3": a_lead(lead_id="l3"),
    }
    assert all(abs(record.written_at - now()) < timedelta(minutes=5) for record in records)
    partitions: dict[int, list[int]] = {}
    for record in records:
        partitions.setdefault(record.partition, []).append(record.offset)
    assert all(offsets == list(range(len(offsets))) for offsets in partitions.values())


def test_an_empty_topic_has_an_end(environ: dict[str, str], group: str) -> None:
    assert _there(environ) == _there(environ, group) == []


def test_a_group_goes_on_where_it_stopped_and_another_begins_at_a_time(
    kafka_topics: Settings, environ: dict[str, str], group: str
) -> None:
    _put(kafka_topics, "l1", "l2")
    assert _there(environ, group) == ["l1", "l2"]
    # Kafka tells moments apart by milliseconds.
    time.sleep(0.05)
    since = now()
    _put(kafka_topics, "l3", "gone-l4")

    assert _there(environ, group) == ["gone-l4", "l3"]
    assert _there(environ, group) == []
    assert _there(environ, f"{group}-2", since) == _there(environ, since=since) == ["gone-l4", "l3"]
    assert _there(environ, group, since) == []
    assert _there(environ, since=now() + timedelta(hours=1)) == []


@pytest.mark.parametrize("end", ["break", "exception", "commit"])
@pytest.mark.parametrize("kafka_topics", [1], indirect=True)
def test_the_record_in_hand_comes_again_unless_it_is_committed(
    kafka_topics: Settings, environ: dict[str, str], group: str, end: str
) -> None:
    _put(kafka_topics, "l1", "l2", "l3")

    with suppress(LookupError), leadstream.Leads(group=group, environ=environ) as leads:
        for record in leads:
            if record.lead_id == "l2":
                if end == "exception":
                    raise LookupError
                if end == "commit":
                    leads.commit()
                break

    assert _there(environ, group) == (["l3"] if end == "commit" else ["l2", "l3"])


@pytest.mark.parametrize("kafka_topics", [1], indirect=True)
def test_a_record_that_is_no_lead_is_raised_with_its_bytes_and_passed_only_by_going_on(
    kafka_topics: Settings, environ: dict[str, str], group: str
) -> None:
    _put(kafka_topics, "l1", "bad-l2", "l3")
    asyncio.run(put(kafka_topics, kafka_topics.topic("leads"), (b"\xff", None)))

    for _ in range(2):
        with (
            pytest.raises(leadstream.UnreadableRecord) as raised,
            leadstream.Leads(group=group, environ=environ) as leads,
        ):
            list(leads)
    fault = raised.value
    assert str(fault) == f"{fault.topic}/0: the record at offset 1 cannot be read: not_wire_format"
    assert (fault.key, fault.value, fault.partition, fault.offset) == (b"bad-l2", b"Menlo Park", 0, 1)

    with leadstream.Leads(group=group, follow=False, environ=environ) as leads:
        seen = list(_whatever_comes(leads))
    assert seen == ["not_wire_format", "l3", "no_key"]
    assert _there(environ, group) == []


def _whatever_comes(leads: leadstream.Leads) -> Iterator[str]:
    while True:
        try:
            yield next(leads).lead_id
        except leadstream.UnreadableRecord as fault:
            yield fault.reason
        except StopIteration:
            return


@pytest.mark.anyio
async def test_the_members_of_a_group_share_the_partitions_and_miss_nothing_as_they_come_and_go(
    kafka_topics: Settings, environ: dict[str, str], group: str
) -> None:
    written: list[str] = []
    seen: dict[int, set[str]] = {0: set(), 1: set()}

    async def member(number: int) -> None:
        async with leadstream.AsyncLeads(group=group, environ=environ) as leads:
            async for record in leads:
                seen[number].add(record.lead_id)

    async def write_until(is_enough: Callable[[], bool]) -> None:
        while not is_enough():
            written.append(f"l{len(written)}")
            await put(kafka_topics, kafka_topics.topic("leads"), _record(written[-1]))

    async with asyncio.timeout(120):
        first = asyncio.create_task(member(0))
        await write_until(lambda: bool(seen[0]))
        second = asyncio.create_task(member(1))
        await write_until(lambda: bool(seen[1]))
        first.cancel()
        await asyncio.wait([first])
        await write_until(lambda: {*written} <= seen[0] | seen[1])
        second.cancel()
        await asyncio.wait([second])

    assert await asyncio.to_thread(_there, environ, group) == []


@pytest.mark.anyio
async def test_async_reads_as_plain_does(kafka_topics: Settings, environ: dict[str, str], group: str) -> None:
    await put(kafka_topics, kafka_topics.topic("leads"), _record("l1"), _record("l2"))

    async with leadstream.AsyncLeads(group=group, follow=False, environ=environ) as leads:
        assert sorted([record.lead_id async for record in leads]) == ["l1", "l2"]
    async with leadstream.AsyncLeads(group=group, follow=False, environ=environ) as leads:
        assert [record async for record in leads] == []


@pytest.mark.parametrize("kafka_topics", [1], indirect=True)
@pytest.mark.parametrize("follow", [True, False])
def test_a_topic_that_was_made_anew_is_not_taken_for_one_that_is_read(
    kafka_topics: Settings, environ: dict[str, str], group: str, *, follow: bool
) -> None:
    _put(kafka_topics, "l1", "l2", "l3")
    assert _there(environ, group) == ["l1", "l2", "l3"]
    asyncio.run(_commit(kafka_topics, group, 7))

    with (
        leadstream.Leads(group=group, follow=follow, environ=environ) as leads,
        pytest.raises(leadstream.ClientError, match=r"leads/0: Kafka no longer has offset 7, which comes next for"),
    ):
        next(leads)


async def _commit(settings: Settings, group: str, offset: int) -> None:
    """As the group would have, had it read a longer topic before this one."""
    topic = settings.topic("leads")
    async with kafka.consumer(cluster_of(settings), topic, group=group, client_id="test") as consumer:
        await consumer.commit({TopicPartition(topic, 0): offset})


def test_ctrl_c_ends_the_wait_for_a_record_and_keeps_what_is_processed(
    kafka_topics: Settings, environ: dict[str, str], group: str
) -> None:
    _put(kafka_topics, "l1", "l2")
    with pytest.raises(KeyboardInterrupt), leadstream.Leads(group=group, environ=environ) as leads:
        _interrupted(leads)

    assert _there(environ, group) == []


def _interrupted(leads: leadstream.Leads) -> None:
    """Ctrl-C while it waits for a third record."""
    for number, _ in enumerate(leads, 1):
        if number == 2:
            threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGINT)).start()


def test_what_is_written_lies_under_its_key_where_the_sinks_look_for_it(
    kafka_topics: Settings, environ: dict[str, str]
) -> None:
    leads = [a_lead(lead_id=f"l{number}", psid=f"70{number}") for number in range(6)]
    commands = [leadstream.follow_up(lead, rule="mine", message=HELLO) for lead in leads]
    stages = [
        leadstream.lead_stage(lead_id=lead.lead_id, page_id=lead.page_id, psid=lead.psid, stage="QualifiedLead")
        for lead in leads
    ]

    with leadstream.Writer(environ=environ) as writer:
        writer.send(*commands, *stages)

    found = asyncio.run(records_of(kafka_topics, kafka_topics.topic("followup-commands")))
    assert {record.key.decode() for record in found} == {f"{lead.page_id}:{lead.psid}" for lead in leads}
    assert sorted(command_codec().decode(record.value).lead_id for record in found) == [f"l{n}" for n in range(6)]
    more = asyncio.run(records_of(kafka_topics, kafka_topics.topic("lead-stages")))
    assert {record.key.decode(): stage_codec().decode(record.value) for record in more} == {
        stage.lead_id: stage for stage in stages
    }
    assert all(record.partition == partition_of(record.key, 2) for record in (*found, *more))


def test_one_refused_record_keeps_all_from_being_written(kafka_topics: Settings, environ: dict[str, str]) -> None:
    good = leadstream.follow_up(a_lead(), rule="mine", message=HELLO)
    bad = replace(good, message=leadstream.FollowUpMessage(""))

    with leadstream.Writer(environ=environ) as writer, pytest.raises(ValueError, match="Meta would refuse"):
        writer.send(good, bad)

    assert asyncio.run(records_of(kafka_topics, kafka_topics.topic("followup-commands"))) == []


def test_what_keeps_a_client_out_is_one_line(kafka_topics: Settings, environ: dict[str, str]) -> None:
    command = leadstream.follow_up(a_lead(), rule="mine", message=HELLO)
    elsewhere = {**environ, "LEADSTREAM_TOPIC_PREFIX": "nothing-here-"}
    away = {"LEADSTREAM_BROKER": f"127.0.0.1:{free_port()}"}

    with pytest.raises(leadstream.ClientError, match="has no topic nothing-here-leads: `leadstream topics apply`"):
        _there(elsewhere)
    with leadstream.Writer(environ=elsewhere) as writer, pytest.raises(leadstream.ClientError, match="has no topic"):
        writer.send(command)
    for client in (leadstream.Leads(environ=away), leadstream.Writer(environ=away)):
        with pytest.raises(leadstream.ClientError, match=r"Kafka does not answer at .* \(Connection refused\)"):
            client.__enter__()
    with pytest.raises(leadstream.ClientError, match="may be leadstream's own: take another name"):
        _there(environ, f"{kafka_topics.topic_prefix}leadstream-warehouse")
    with pytest.raises(leadstream.ClientError, match="LEADSTREAM_BROKER"):
        _there({"LEADSTREAM_BROKER": "nonsense://"})


def test_while_kafka_stands_still_reading_waits_and_writing_and_the_end_give_up(tmp_path: Path) -> None:
    node = KafkaNode(tmp_path / "node", free_port())
    settings = Settings(broker=node.start(lambda _: None, os.environ), partitions=1)
    environ = environ_of(settings)
    stage = leadstream.lead_stage(lead_id="l1", page_id="54", psid="701", stage="QualifiedLead")
    try:
        asyncio.run(apply_topics(cluster_of(settings), expected_topics(settings)))
        with (
            ThreadPoolExecutor(1) as thread,
            leadstream.Leads(group="crm", environ=environ) as leads,
            leadstream.Writer(timeout=2, environ=environ) as writer,
        ):
            writer.send(stage)
            _signal(node, signal.SIGSTOP)
            reading = thread.submit(next, leads)
            with pytest.raises(leadstream.ClientError, match="did not confirm the records within 2 seconds: send"):
                writer.send(stage)
            assert not reading.done()
            _signal(node, signal.SIGCONT)
            _put(settings, "l1")
            assert reading.result(60).lead_id == "l1"
            writer.send(stage)
        stages = asyncio.run(records_of(settings, "lead-stages"))
        assert {stage_codec().decode(record.value) for record in stages} == {stage}

        with subprocess.Popen([sys.executable, "-c", LEAVES], env=environ, stdin=PIPE, stdout=PIPE, stderr=PIPE) as run:
            assert run.stdout is not None
            assert run.stdout.readline() == b"open\n"
            _signal(node, signal.SIGSTOP)
            assert (*run.communicate(b"leave\n", timeout=60), run.returncode) == (b"left\n", b"", 0)
    finally:
        _signal(node, signal.SIGCONT)
        node.stop()


def _signal(node: KafkaNode, number: signal.Signals) -> None:
    running = node.status()
    assert running is not None
    os.kill(running.pid, number)
