"""The send sink on a real Kafka, with a Graph API in memory."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from msgspec import structs

from messenger.events import person_key
from runtime import kafka
from runtime.clock import now
from runtime.cluster import cluster_of
from runtime.settings import Settings
from schemas.codec import command_codec, event_codec
from tests.integration.send_cluster import LIMITS, SendCluster
from tests.integration.topics import connected, put, records_of
from tests.unit.sinks.events import a_reply
from tests.unit.sinks.fakes import PAGE

pytestmark = [pytest.mark.anyio, pytest.mark.integration]


async def test_outcomes_lie_in_the_partition_of_their_command(kafka_topics: Settings) -> None:
    cluster = SendCluster(kafka_topics)
    await cluster.put(*(cluster.command(f"c{number}", str(number)) for number in range(20)))

    async with cluster.sink():
        await cluster.until_settled(20)

    places = {
        command_codec().decode(record.value).command_id: record.partition
        for record in await records_of(kafka_topics, cluster.commands)
    }
    assert set(places.values()) == {0, 1}
    assert {record.key.decode(): record.partition for record in await cluster.outcome_records()} == places
    assert {outcome.status for outcome in (await cluster.latest()).values()} == {"sent"}


async def test_reading_all_commands_again_sends_nothing_again(kafka_topics: Settings) -> None:
    cluster = SendCluster(kafka_topics)
    await cluster.put(*(cluster.command(f"c{number}", str(number)) for number in range(20)))
    async with cluster.sink("first"):
        await cluster.until_settled(20)
    await cluster.put(cluster.command("last", "7001"))

    async with cluster.sink("second"):
        await cluster.until_settled(21)

    assert len(cluster.graph.sent) == len(set(cluster.graph.sent)) == 21


async def test_a_second_worker_takes_over_partitions_without_sending_twice(kafka_topics: Settings) -> None:
    cluster = SendCluster(kafka_topics)
    commands = [cluster.command(f"c{number}", str(number % 37)) for number in range(300)]

    async with cluster.sink():
        await cluster.put(*commands[:100])
        async with cluster.sink():
            await cluster.put(*commands[100:200])
            await cluster.until_settled(200)
        await cluster.put(*commands[200:])
        await cluster.until_settled(300)

    assert sorted(cluster.graph.sent) == sorted(command.command_id for command in commands)


async def test_undecodable_commands_go_to_the_dead_letters_with_their_bytes(kafka_topics: Settings) -> None:
    cluster = SendCluster(kafka_topics)
    await cluster.put(b"\x00\x00\x00\x00\x63junk", cluster.command("c1", "1"))

    async with cluster.sink():
        await cluster.until_settled(1)

    [letter] = await records_of(kafka_topics, f"{cluster.commands}-dlq")
    assert letter.value == b"\x00\x00\x00\x00\x63junk"
    assert dict(letter.headers)["__connect.errors.topic"] == cluster.commands.encode()


async def test_commands_that_lie_apart_from_their_person_go_to_the_dead_letters(kafka_topics: Settings) -> None:
    """Another partitioner or key puts a command where nothing that its person does is heard."""
    cluster = SendCluster(kafka_topics)
    command, good = cluster.command("c1", "1"), cluster.command("c2", "1")
    await cluster.put(good)
    [placed] = await records_of(kafka_topics, cluster.commands)
    async with connected(kafka.producer(cluster_of(kafka_topics), client_id="automation")) as producer:
        value = command_codec().encode(command)
        await producer.send_and_wait(cluster.commands, value, key=placed.key, partition=1 - placed.partition)
        await producer.send_and_wait(cluster.commands, value, key=b"c1", partition=placed.partition)

    async with cluster.sink():
        await cluster.until_settled(1)
        letters = await _letters(cluster, 2)

    assert {dict(letter.headers)["__connect.errors.exception.message"] for letter in letters} == {
        b"wrong_partition: produce with the partitioner murmur2",
        b"key_of_another",
    }
    assert cluster.graph.sent == ["c2"]


async def _letters(cluster: SendCluster, count: int) -> list[Any]:
    for _ in range(300):
        letters = await records_of(cluster.settings, f"{cluster.commands}-dlq")
        if len(letters) >= count:
            return letters
        await asyncio.sleep(0.1)
    raise AssertionError("the dead letters did not come")


async def test_commands_that_an_automation_writes_in_transactions_are_sent(kafka_topics: Settings) -> None:
    cluster = SendCluster(kafka_topics)
    await cluster.put_in_transaction(*(cluster.command(f"c{number}", str(number)) for number in range(10)))

    async with cluster.sink():
        await cluster.until_settled(10)
        await cluster.put_in_transaction(cluster.command("aborted", "7001"), aborts=True)
        await cluster.put_in_transaction(cluster.command("last", "7001"))
        await cluster.until_settled(11)

    assert len(cluster.graph.sent) == len(set(cluster.graph.sent)) == 11


async def test_what_was_cancelled_while_the_sink_was_down_is_not_sent(kafka_topics: Settings) -> None:
    cluster = SendCluster(kafka_topics, limits=replace(LIMITS, held_per_partition=50))
    commands = [cluster.command(f"c{number}", str(number)) for number in range(400)]
    taken_back = commands[::7]
    await cluster.put(*commands, *(structs.replace(outcome, cancel_reason="human") for outcome in taken_back))

    async with cluster.sink():
        await cluster.until_settled(400)

    assert sorted(cluster.graph.sent) == sorted(command.command_id for command in commands if command not in taken_back)
    assert {name for name, outcome in (await cluster.latest()).items() if outcome.status == "cancelled"} == {
        outcome.command_id for outcome in taken_back
    }


async def test_an_old_command_waits_for_the_join_and_its_late_cancellation(kafka_topics: Settings) -> None:
    cluster = SendCluster(kafka_topics, join_group=f"{kafka_topics.topic_prefix}leadstream")
    stays, goes = cluster.command("stays", "1"), cluster.command("goes", "2")
    fresh = structs.replace(cluster.command("fresh", "3"), created_at=now())
    await cluster.put(stays, goes, fresh)

    async with cluster.sink():
        await cluster.until_settled(1)
        await cluster.report_and_join(now() - timedelta(minutes=1))
        await asyncio.sleep(3)
        sent_before = list(cluster.graph.sent)
        await cluster.put(structs.replace(stays, cancel_reason="reply"))
        await cluster.report_and_join(now())
        await cluster.until_settled(3)

    assert sent_before == ["fresh"]
    assert cluster.graph.sent == ["fresh", "goes"]
    assert (await cluster.latest())["stays"].status == "cancelled"


async def test_a_reply_that_the_sink_has_read_cancels_a_planned_command_before_the_join_does(
    kafka_topics: Settings,
) -> None:
    cluster = SendCluster(kafka_topics)
    moment = now()
    stays = structs.replace(
        cluster.command("stays", "7001"), created_at=moment, cancel_on=("reply",), flow_ended_at=moment
    )
    reply = structs.replace(a_reply(moment + timedelta(seconds=1)), event_at=moment + timedelta(seconds=1))
    await put(kafka_topics, cluster.events, (person_key(PAGE, "7001").encode(), event_codec().encode(reply)))
    await cluster.put(stays)

    async with cluster.sink():
        await cluster.until_settled(1)

    assert [(outcome.status, outcome.reason) for outcome in (await cluster.latest()).values()] == [
        ("cancelled", "reply")
    ]
