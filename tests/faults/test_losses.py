"""What Kafka loses before streams read it stops streams by name, and an operator can have it go on."""

import asyncio
import re
import signal
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.records_to_delete import RecordsToDelete

from messenger.events import Psid
from operations.deployment import expected_topics
from runtime import kafka
from runtime.clock import now
from runtime.cluster import cluster_of
from runtime.losses import OutOfReach
from runtime.ports import free_ports
from runtime.settings import Settings
from runtime.topic_admin import apply_topics, delete_topics
from schemas.codec import lead_codec
from schemas.topics import COMMANDS, EVENTS, JOIN_STATE, LEADS, OUTCOMES, TRANSCRIPTS, WEBHOOKS, Topic
from tests.e2e.test_pipeline import signals_of
from tests.integration.sink_runs import Cluster
from tests.integration.test_streams_process import PERSON, Streams, eventually, is_ready
from tests.integration.topics import connected, put

pytestmark = [pytest.mark.anyio, pytest.mark.faults]

OTHER = Psid("7100000000000002")


@pytest.fixture
async def streams(kafka_topics: Settings, tmp_path: Path) -> AsyncIterator[Streams]:
    streams = Streams(kafka_topics, tmp_path)
    yield streams
    await streams.stop()


async def start(
    streams: Streams, *options: str, stage: tuple[str, ...] = ("streams",)
) -> tuple[asyncio.subprocess.Process, int]:
    port = free_ports()
    return await streams.start("cli", *stage, "--admin-port", str(port), *options), port


async def ready(
    streams: Streams, *options: str, stage: tuple[str, ...] = ("streams",)
) -> tuple[asyncio.subprocess.Process, int]:
    process, port = await start(streams, *options, stage=stage)

    async def answers() -> bool:
        assert process.returncode is None, streams.output()
        return await is_ready(port)

    await eventually(answers)
    return process, port


async def end(process: asyncio.subprocess.Process) -> None:
    process.send_signal(signal.SIGTERM)
    assert await asyncio.wait_for(process.wait(), 60) == 0


async def put_lead(streams: Streams, psid: Psid) -> None:
    """Let streams finish one more lead of a person: two minutes after the last, or its signals would be copies."""
    before = len(await leads_of(streams, psid))
    at = now() - timedelta(hours=1) + before * timedelta(minutes=2)
    await streams.put_webhooks(*signals_of(psid, at).values())

    async def is_there() -> bool:
        return len(await leads_of(streams, psid)) == before + 1

    await eventually(is_there)


async def leads_of(streams: Streams, psid: Psid) -> set[str]:
    leads = [lead_codec().decode(record.value) for record in await streams.records(LEADS.name)]
    return {lead.lead_id for lead in leads if lead.answers and lead.psid == psid}


async def lose(streams: Streams, topic: Topic) -> None:
    """What retention does: all that is there goes, and the offsets go on."""
    name, broker = streams.settings.topic(topic.name), cluster_of(streams.settings)
    admin = AIOKafkaAdminClient(**broker.options)
    await admin.start()
    try:
        everything = {
            TopicPartition(name, number): RecordsToDelete(before_offset=-1)
            for number in range(streams.settings.partitions)
        }
        await admin.delete_records(everything)
    finally:
        await admin.close()


async def make_anew(streams: Streams, *topics: Topic) -> None:
    broker = cluster_of(streams.settings)
    await delete_topics(broker, [streams.settings.topic(topic.name) for topic in topics])
    await asyncio.sleep(2)
    await apply_topics(broker, expected_topics(streams.settings))


async def stops_with(streams: Streams, process: asyncio.subprocess.Process) -> str:
    """The line that streams end with."""
    assert await asyncio.wait_for(process.wait(), 60) == 1
    [line] = [line for line in streams.output().splitlines() if line.startswith("Error: ")]
    return line


async def test_what_retention_took_before_streams_read_it_stops_them_by_name(streams: Streams) -> None:
    process, _ = await ready(streams)
    await put_lead(streams, PERSON)
    await end(process)
    await streams.put_webhooks(*[b"{}"] * 20)
    await lose(streams, WEBHOOKS)

    line = await stops_with(streams, (await start(streams))[0])
    again = await stops_with(streams, (await start(streams))[0])
    accepted = re.search(r"--accept-loss (\S+:\d+:\d+)", line)
    assert accepted, line
    process, port = await ready(streams, "--accept-loss", accepted[1])
    async with httpx.AsyncClient() as http:
        metrics = (await http.get(f"http://127.0.0.1:{port}/metrics")).text
    await put_lead(streams, OTHER)
    await end(process)
    process, _ = await ready(streams)

    assert "20 records are lost" in line
    assert again == line
    assert re.search(
        r'^leadstream_records_lost_total\{partition="\d",topic="\S+messenger-webhooks"\} 20.0', metrics, re.M
    )


async def test_what_retention_takes_while_streams_stand_still_stops_them(streams: Streams) -> None:
    process, _ = await ready(streams)
    await put_lead(streams, PERSON)
    process.send_signal(signal.SIGSTOP)
    # A fetch that waits at the broker would still bring them.
    await asyncio.sleep(1)
    await streams.put_webhooks(*[b"{}"] * 20)
    await lose(streams, WEBHOOKS)
    process.send_signal(signal.SIGCONT)

    line = await stops_with(streams, process)
    exact = await stops_with(streams, (await start(streams))[0])

    # Streams may have fetched nothing, or have to join their group again.
    assert "OutOfReach" in line
    assert "messenger-webhooks/" in line
    assert "20 records are lost" in exact


@pytest.mark.parametrize("topics", [(WEBHOOKS,), (EVENTS,), (WEBHOOKS, EVENTS)], ids=lambda topics: len(topics))
async def test_a_topic_that_was_made_anew_stops_streams_and_is_not_taken_for_known(
    streams: Streams, topics: tuple[Topic, ...]
) -> None:
    process, _ = await ready(streams)
    await put_lead(streams, PERSON)
    await end(process)
    await make_anew(streams, *topics)

    line = await stops_with(streams, (await start(streams))[0])
    options = [option for topic in topics for option in ("--accept-loss", topic.name)]
    process, _ = await ready(streams, *options)
    # At the offsets that are known of the topic before it.
    await put_lead(streams, PERSON)
    await end(process)
    process, _ = await ready(streams)
    await put_lead(streams, PERSON)

    assert "was deleted and made anew" in line
    assert len(await leads_of(streams, PERSON)) == 3


async def test_a_topic_that_is_made_anew_under_running_streams_stops_them(streams: Streams) -> None:
    process, _ = await ready(streams)
    await put_lead(streams, PERSON)
    await make_anew(streams, WEBHOOKS)
    await streams.put_webhooks(*signals_of(PERSON, now()).values())

    line = await stops_with(streams, process)

    assert "was deleted and made anew" in line


async def test_everything_made_anew_is_a_first_start(streams: Streams) -> None:
    process, _ = await ready(streams)
    await put_lead(streams, PERSON)
    await end(process)
    await make_anew(streams, WEBHOOKS, EVENTS, TRANSCRIPTS, JOIN_STATE, LEADS)

    process, _ = await ready(streams)
    await put_lead(streams, PERSON)


async def read_by(streams: Streams, topic: Topic, *stage: str) -> None:
    """Have a sink commit a record, which it cannot decode, and end."""
    await put(streams.settings, streams.settings.topic(topic.name), (b"key", b"no record of ours"))
    process, _ = await ready(streams, stage=stage)

    async def is_refused() -> bool:
        return bool(await streams.records(topic.dead_letters))

    await eventually(is_refused)
    await end(process)


@pytest.mark.parametrize(("sink", "topic"), [("send", COMMANDS), ("transcripts", TRANSCRIPTS), ("warehouse", EVENTS)])
async def test_what_retention_took_before_a_sink_read_it_stops_it_by_name(
    streams: Streams, sink: str, topic: Topic, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LEADSTREAM_WAREHOUSE", str(streams.home / "warehouse"))
    stage = ("sink", sink)
    await read_by(streams, topic, *stage)
    name = streams.settings.topic(topic.name)
    await put(streams.settings, name, *[(b"key", b"lost")] * 20)
    await lose(streams, topic)

    line = await stops_with(streams, (await start(streams, stage=stage))[0])
    accepted = re.search(r"--accept-loss (\S+:\d+:\d+)", line)
    assert accepted, line
    process, _ = await ready(streams, "--accept-loss", accepted[1], stage=stage)
    await end(process)
    process, _ = await ready(streams, stage=stage)

    assert "20 records are lost" in line
    assert f"`leadstream sink {sink} --accept-loss {accepted[1]}`" in line


async def test_what_comes_after_an_accepted_loss_is_in_the_warehouse(
    streams: Streams, monkeypatch: pytest.MonkeyPatch
) -> None:
    warehouse, stage = str(streams.home / "warehouse"), ("sink", "warehouse")
    monkeypatch.setenv("LEADSTREAM_WAREHOUSE", warehouse)
    cluster = Cluster(streams.settings, warehouse)
    await cluster.put_events(3)
    process, _ = await ready(streams, stage=stage)
    await cluster.until("select count(*) from user_messages", [(3,)])
    await end(process)
    await cluster.put_events(20)
    await lose(streams, EVENTS)
    line = await stops_with(streams, (await start(streams, stage=stage))[0])
    accepted = re.search(r"--accept-loss (\S+:\d+:\d+)", line)
    assert accepted, line

    process, port = await ready(streams, "--accept-loss", accepted[1], stage=stage)
    async with httpx.AsyncClient() as http:
        metrics = (await http.get(f"http://127.0.0.1:{port}/metrics")).text
    # The loss stays accepted, also after an end before anything else is written.
    process.kill()
    await process.wait()
    await cluster.put_events(2)
    process, _ = await ready(streams, stage=stage)
    await cluster.until("select _offset from user_messages order by 1", [(0,), (1,), (2,), (23,), (24,)])
    await end(process)

    assert re.search(
        r'^leadstream_records_lost_total\{partition="\d",topic="\S+messenger-events"\} 20.0', metrics, re.M
    )


async def test_a_ledger_that_was_made_anew_stops_the_send_sink(streams: Streams) -> None:
    stage = ("sink", "send")
    await read_by(streams, COMMANDS, *stage)
    await make_anew(streams, OUTCOMES)

    line = await stops_with(streams, (await start(streams, stage=stage))[0])
    process, _ = await ready(streams, "--accept-loss", OUTCOMES.name, stage=stage)
    await end(process)
    process, _ = await ready(streams, stage=stage)

    assert re.search(r"followup-outcomes was deleted and made anew", line)


async def test_a_topic_of_the_warehouse_that_was_made_anew_stops_the_sink(
    streams: Streams, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = ("sink", "warehouse")
    monkeypatch.setenv("LEADSTREAM_WAREHOUSE", str(streams.home / "old"))
    await read_by(streams, LEADS, *stage)
    await make_anew(streams, LEADS)

    line = await stops_with(streams, (await start(streams, stage=stage))[0])
    monkeypatch.setenv("LEADSTREAM_WAREHOUSE", str(streams.home / "new"))
    process, _ = await ready(streams, stage=stage)
    await end(process)
    process, _ = await ready(streams, stage=stage)

    assert "leads was deleted and made anew" in line
    assert "--accept-loss cannot pass this" in line


async def test_no_consumer_of_ours_reads_on_behind_a_gap(streams: Streams) -> None:
    topic = streams.settings.topic(EVENTS.name)
    async with connected(kafka.consumer(cluster_of(streams.settings), group=None, client_id="test")) as consumer:
        await put(streams.settings, topic, (b"key", b"1"))
        partitions = [TopicPartition(topic, number) for number in range(streams.settings.partitions)]
        consumer.assign(partitions)
        await consumer.seek_to_beginning(*partitions)
        while not await consumer.getmany(timeout_ms=100):
            pass
        consumer.pause(*partitions)
        # What was asked for before the pause finds nothing.
        await asyncio.sleep(1)
        await put(streams.settings, topic, *[(b"key", b"lost")] * 20)
        await lose(streams, EVENTS)
        consumer.seek(max(partitions, key=lambda partition: consumer.highwater(partition) or 0), 1)
        consumer.resume(*partitions)

        with pytest.raises(OutOfReach, match="no longer has offset 1"):
            await read_for_ever(consumer)


async def read_for_ever(consumer: kafka.Consumer) -> None:
    async with asyncio.timeout(30):
        while True:
            await consumer.getmany(timeout_ms=100)
