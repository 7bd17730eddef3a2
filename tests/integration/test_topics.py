"""Topics on a real Kafka: created as designed, repaired when they drift, never made by accident."""

import asyncio
from dataclasses import replace
from pathlib import Path

import anyio
import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic
from aiokafka.errors import InvalidTopicError, KafkaError
from click.testing import CliRunner

from cli.main import main
from operations.deployment import expected_topics
from runtime.cluster import Cluster
from runtime.settings import Settings
from runtime.topic_admin import (
    Difference,
    ExpectedTopic,
    LayoutMismatchError,
    TopicRefusedError,
    apply_topics,
    compare_topics,
    delete_topics,
    existing_topics,
    partition_counts,
    record_counts,
    topic_names,
)
from schemas.topics import LEADS, TOPICS, WEBHOOKS

pytestmark = pytest.mark.integration


@pytest.mark.anyio
async def test_apply_creates_each_topic_with_the_settings_of_the_table(
    kafka_broker: str, kafka_topics: Settings
) -> None:
    existing = await existing_topics(Cluster(kafka_broker), [kafka_topics.topic(topic.name) for topic in TOPICS])

    for topic in TOPICS:
        created = existing[kafka_topics.topic(topic.name)]
        assert created.partitions == 2
        assert topic.settings.items() <= created.config.items()
        assert created.acknowledged == "on disk"


@pytest.mark.anyio
async def test_webhooks_carry_the_brokers_time(kafka_broker: str, kafka_topics: Settings) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=kafka_broker)
    async with producer:
        webhook = await producer.send_and_wait(kafka_topics.topic(WEBHOOKS.name), b"{}", timestamp_ms=1)
        lead = await producer.send_and_wait(kafka_topics.topic(LEADS.name), b"{}", key=b"lead", timestamp_ms=1)

    assert webhook.timestamp > 1
    assert lead.timestamp == 1


@pytest.mark.anyio
async def test_a_topic_that_acknowledges_in_memory_is_told_and_repaired(kafka_broker: str, topic_prefix: str) -> None:
    broker, name = Cluster(kafka_broker), f"{topic_prefix}erasures"
    wanted = [ExpectedTopic(name, 1, 1, {"cleanup.policy": "compact"})]
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka_broker)
    await admin.start()
    await admin.create_topics([NewTopic(name, 1, 1, topic_configs=dict(wanted[0].config))])
    await admin.close()
    while not await existing_topics(broker, [name]):  # noqa: ASYNC110 - the broker makes it
        await anyio.sleep(0.1)
    drift = [Difference(name, "flush.messages", "9223372036854775807", "1")]

    assert await compare_topics(broker, wanted) == drift
    assert (await existing_topics(broker, [name]))[name].acknowledged == "in memory"
    assert await apply_topics(broker, wanted) == drift
    assert (await existing_topics(broker, [name]))[name].acknowledged == "on disk"

    await delete_topics(broker, [name])


@pytest.mark.anyio
async def test_second_apply_changes_nothing(kafka_broker: str, kafka_topics: Settings) -> None:
    assert await apply_topics(Cluster(kafka_broker), expected_topics(kafka_topics)) == []


@pytest.mark.anyio
async def test_drift_is_reported_and_repaired_and_other_overrides_stay(kafka_broker: str, topic_prefix: str) -> None:
    name = f"{topic_prefix}leads"
    await apply_topics(
        Cluster(kafka_broker), [ExpectedTopic(name, 1, 1, {"cleanup.policy": "delete", "segment.ms": "60000"})]
    )
    wanted = [ExpectedTopic(name, 1, 1, {"cleanup.policy": "compact"})]
    drift = [Difference(name, "cleanup.policy", "delete", "compact")]

    assert await compare_topics(Cluster(kafka_broker), wanted) == drift
    assert await apply_topics(Cluster(kafka_broker), wanted) == drift
    repaired = (await existing_topics(Cluster(kafka_broker), [name]))[name]
    assert repaired.overrides == {"cleanup.policy": "compact", "segment.ms": "60000", "flush.messages": "1"}

    await delete_topics(Cluster(kafka_broker), [name])


@pytest.mark.anyio
async def test_another_partition_count_is_refused_before_anything_changes(
    kafka_broker: str, kafka_topics: Settings
) -> None:
    absent = ExpectedTopic(f"{kafka_topics.topic_prefix}absent", 1, 1, {})
    wanted = [absent, *expected_topics(replace(kafka_topics, partitions=3))]

    with pytest.raises(LayoutMismatchError, match="partitions 2, expected 3"):
        await apply_topics(Cluster(kafka_broker), wanted)

    assert absent.name not in await topic_names(Cluster(kafka_broker))


@pytest.mark.anyio
async def test_fewer_copies_than_wanted_are_refused_before_anything_changes(
    kafka_broker: str, kafka_topics: Settings
) -> None:
    """With one copy, a topic that wants two acknowledgements would take no record any more."""
    wanted = expected_topics(replace(kafka_topics, replication=3))

    with pytest.raises(LayoutMismatchError, match="replication 1, expected 3: keep the count it has, or add copies"):
        await apply_topics(Cluster(kafka_broker), wanted)

    (webhooks,) = (await existing_topics(Cluster(kafka_broker), [kafka_topics.topic(WEBHOOKS.name)])).values()
    assert (webhooks.replication, webhooks.config["min.insync.replicas"]) == (1, "1")


@pytest.mark.anyio
async def test_more_acknowledgements_than_wanted_stay(kafka_broker: str, topic_prefix: str) -> None:
    name = f"{topic_prefix}leads"
    strict = {"min.insync.replicas": "2", "cleanup.policy": "delete"}
    await apply_topics(Cluster(kafka_broker), [ExpectedTopic(name, 1, 1, strict)])

    await apply_topics(
        Cluster(kafka_broker), [ExpectedTopic(name, 1, 1, {"min.insync.replicas": "1", "cleanup.policy": "compact"})]
    )

    (repaired,) = (await existing_topics(Cluster(kafka_broker), [name])).values()
    assert repaired.overrides == {**strict, "cleanup.policy": "compact", "flush.messages": "1"}
    await delete_topics(Cluster(kafka_broker), [name])


@pytest.mark.anyio
async def test_a_setting_that_kafka_does_not_know_is_refused(kafka_broker: str, topic_prefix: str) -> None:
    with pytest.raises(TopicRefusedError, match=r"cleanup\.policy"):
        await apply_topics(
            Cluster(kafka_broker), [ExpectedTopic(f"{topic_prefix}odd", 1, 1, {"cleanup.policy": "shred"})]
        )


@pytest.mark.anyio
async def test_no_topic_is_made_by_writing_to_it(kafka_broker: str, topic_prefix: str) -> None:
    name = f"{topic_prefix}misspelt"
    producer = AIOKafkaProducer(bootstrap_servers=kafka_broker, request_timeout_ms=500)

    async with producer:
        with pytest.raises(KafkaError):
            await producer.send_and_wait(name, b"lost")

    assert name not in await topic_names(Cluster(kafka_broker))


@pytest.mark.anyio
async def test_records_are_counted_over_all_partitions(kafka_broker: str, kafka_topics: Settings) -> None:
    name = kafka_topics.topic(WEBHOOKS.name)
    async with AIOKafkaProducer(bootstrap_servers=kafka_broker) as producer:
        for partition in (0, 1, 1):
            await producer.send_and_wait(name, b"{}", partition=partition)

    existing = await existing_topics(Cluster(kafka_broker), [name])

    assert await record_counts(Cluster(kafka_broker), existing.values()) == {name: 3}


@pytest.mark.anyio
async def test_a_name_that_kafka_refuses_is_named(kafka_broker: str) -> None:
    with pytest.raises(InvalidTopicError) as fault:
        await partition_counts(Cluster(kafka_broker), ["leads", "no name"])

    assert fault.value.args == ("no name",)


def test_commands_check_then_create_then_list_the_topics(kafka_broker: str, topic_prefix: str) -> None:
    environment = {"LEADSTREAM_BROKER": kafka_broker, "LEADSTREAM_TOPIC_PREFIX": topic_prefix}
    run = CliRunner(env={**environment, "LEADSTREAM_PARTITIONS": "1", "COLUMNS": "200"})

    before = run.invoke(main, ["topics", "apply", "--check"])
    applied = run.invoke(main, ["topics", "apply"])
    after = run.invoke(main, ["topics", "apply", "--check"])
    listed = run.invoke(main, ["topics", "list"])

    assert [result.exit_code for result in (before, applied, after, listed)] == [1, 0, 0, 0]
    assert f"{topic_prefix}leads: missing" in before.output
    assert f"{topic_prefix}leads: created" in applied.output
    for topic in TOPICS:
        assert f"{topic_prefix}{topic.name}" in listed.output
    assert listed.output.count("on disk") == len(TOPICS)


def test_command_refuses_another_partition_count_in_one_line(kafka_topics: Settings) -> None:
    environment = {"LEADSTREAM_BROKER": kafka_topics.broker, "LEADSTREAM_TOPIC_PREFIX": kafka_topics.topic_prefix}

    result = CliRunner(env=environment).invoke(main, ["topics", "apply"])

    assert result.exit_code == 1
    assert result.output.startswith("Error: ")
    assert "partitions 2, expected 8" in result.output
    assert result.output.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["streams", "--admin-port=0"],
        ["sink", "send", "--admin-port=0"],
        ["sink", "warehouse", "--admin-port=0"],
        ["sink", "transcripts", "--admin-port=0"],
        ["replay", "plan", "--from=0"],
        ["leads", "list"],
    ],
    ids=" ".join,
)
def test_whoever_reads_topics_refuses_another_partition_count(
    kafka_topics: Settings, tmp_path: Path, arguments: list[str]
) -> None:
    environment = {
        "LEADSTREAM_BROKER": kafka_topics.broker,
        "LEADSTREAM_TOPIC_PREFIX": kafka_topics.topic_prefix,
        "LEADSTREAM_STATE_DIR": str(tmp_path),
        "LEADSTREAM_WAREHOUSE": str(tmp_path / "warehouse"),
    }

    result = CliRunner(env=environment).invoke(main, arguments)

    assert result.exit_code == 1
    said = "LEADSTREAM_PARTITIONS is 8: set LEADSTREAM_PARTITIONS to 2, the number that all topics have"
    assert result.output.splitlines()[-1].endswith(said)
    assert result.output.splitlines()[-1].startswith("Error: ")


@pytest.mark.parametrize("partitions", ["2", "4"])
@pytest.mark.parametrize(
    "arguments", [["topics", "apply"], ["streams", "--admin-port=0"], ["sink", "send", "--admin-port=0"]], ids=" ".join
)
def test_after_one_count_was_raised_no_message_leads_to_another(
    kafka_topics: Settings, partitions: str, arguments: list[str]
) -> None:
    """Set to either count, the same way out is told."""
    raised = kafka_topics.topic(WEBHOOKS.name)
    asyncio.run(_raise_count(str(kafka_topics.broker), raised))
    environment = {
        "LEADSTREAM_BROKER": kafka_topics.broker,
        "LEADSTREAM_TOPIC_PREFIX": kafka_topics.topic_prefix,
        "LEADSTREAM_PARTITIONS": partitions,
    }

    result = CliRunner(env=environment).invoke(main, arguments)

    assert result.exit_code == 1
    assert '"A partition count was raised" in docs/operating.md' in result.output.splitlines()[-1]
    assert "set LEADSTREAM_PARTITIONS" not in result.output


async def _raise_count(broker: str, topic: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=broker)
    await admin.start()
    try:
        await admin.create_partitions({topic: NewPartitions(4)})
        while (await existing_topics(Cluster(broker), [topic]))[topic].partitions != 4:  # noqa: ASYNC110
            await asyncio.sleep(0.1)
    finally:
        await admin.close()
