"""Topics of the cluster: compare with what is expected, create, repair, count, delete."""

import asyncio
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import InvalidTopicError, TopicAuthorizationFailedError, for_code

from runtime.cluster import Cluster, admin_client
from runtime.mendable import Mendable

_RETRY_AFTER = 0.1
_ATTEMPTS = 300
_UNKNOWN_TOPIC = 3
# The `config_source` of https://kafka.apache.org/protocol#The_Messages_DescribeConfigs.
_SET_ON_TOPIC = 1
_COPIES = "min.insync.replicas"
FLUSH = "flush.messages"
_LAYOUT = {
    "partitions": "keep its count, because keys would move",
    "replication": "keep the count it has, or add copies with Kafka's kafka-reassign-partitions.sh",
}


@dataclass(frozen=True, slots=True)
class ExpectedTopic:
    """A topic as it should be; other settings of the topic stay as they are."""

    name: str
    partitions: int
    replication: int
    config: Mapping[str, str]

    @property
    def settings(self) -> Mapping[str, str]:
        """The configuration, and the settings by which an acknowledged record survives the loss of a machine.

        With three copies or more, two brokers have the record. With fewer, perhaps only the leader has it, so it is on
        the leader's disk. By default Kafka acknowledges a record that only the leader has, in memory.
        """
        return {**self.config, **({_COPIES: "2"} if self.replication > 2 else {FLUSH: "1"})}


@dataclass(frozen=True, slots=True)
class ExistingTopic:
    """A topic as it is: `config` is in force, `overrides` is the part of it that was set on the topic itself."""

    name: str
    partitions: int
    replication: int
    config: Mapping[str, str]
    overrides: Mapping[str, str]

    @property
    def acknowledged(self) -> str:
        """Where an acknowledged record certainly is."""
        copies = int(self.config.get(_COPIES, "1"))
        on_disk = self.config.get(FLUSH) == "1"
        return f"by {copies} brokers" if copies > 1 else "on disk" if on_disk else "in memory"


@dataclass(frozen=True, slots=True)
class Difference:
    """A difference between the cluster and the expected topics. `seen` None: the topic does not exist."""

    topic: str
    what: str
    seen: str | None
    expected: str

    def __str__(self) -> str:
        if self.seen is None:
            return f"{self.topic}: missing"
        return f"{self.topic}: {self.what} {self.seen}, expected {self.expected}"


class LayoutMismatchError(Mendable):
    """A topic has another number of partitions than expected, or fewer copies; neither can be repaired here."""

    def __init__(self, difference: Difference, advice: str | None = None) -> None:
        super().__init__(f"{difference}: {advice or _LAYOUT[difference.what]}")


class TopicRefusedError(Mendable):
    """The cluster refused to create, alter or delete a topic; the message has its reason."""


def partitions_advice(differences: Collection[Difference], topics: int) -> str | None:
    """The advice for topics with an unexpected number of partitions; None where all have the expected one.

    `topics` is how many were compared.
    """
    other = [difference for difference in differences if difference.what == "partitions"]
    if not other:
        return None
    counts = {difference.seen for difference in other}
    missing = sum(difference.seen is None for difference in differences)
    if len(counts) == 1 and len(other) + missing == topics:
        return f"set LEADSTREAM_PARTITIONS to {other[0].seen}, the number that all topics have"
    return (
        f"{other[0].topic} has {other[0].seen} partitions and other topics have {other[0].expected}, so no setting fits"
        ' all: see "A partition count was raised" in docs/operating.md'
    )


async def compare_topics(broker: Cluster, expected: Collection[ExpectedTopic]) -> list[Difference]:
    """Every difference between the expected topics and the cluster, in the order of `expected`."""
    async with admin_client(broker) as admin:
        return _all_differences(expected, await _existing(admin, [topic.name for topic in expected]))


async def apply_topics(broker: Cluster, expected: Collection[ExpectedTopic]) -> list[Difference]:
    """Create missing topics, repair settings that drifted, wait until both are in force, and return the differences.

    Raises `LayoutMismatchError` before it changes anything, and `TopicRefusedError`.
    """
    names = [topic.name for topic in expected]
    async with admin_client(broker) as admin:
        existing = await _existing(admin, names)
        differences = _all_differences(expected, existing)
        for difference in differences:
            if difference.what in _LAYOUT:
                raise LayoutMismatchError(difference, partitions_advice(differences, len(expected)))
        differing = {difference.topic for difference in differences}
        await _create(admin, [topic for topic in expected if topic.name not in existing])
        await _repair(
            admin, [(topic, existing[topic.name]) for topic in expected if topic.name in differing & set(existing)]
        )
        # A node learns of a change a little later than the controller.
        for _ in range(_ATTEMPTS):
            if not _all_differences(expected, await _existing(admin, names)):
                return differences
            await asyncio.sleep(_RETRY_AFTER)
    raise TopicRefusedError(
        f"{', '.join(sorted(differing))}: accepted, but not in force after {_ATTEMPTS * _RETRY_AFTER:.0f} s"
    )


async def existing_topics(broker: Cluster, names: Iterable[str]) -> dict[str, ExistingTopic]:
    """Those of the named topics that exist, by name."""
    async with admin_client(broker) as admin:
        return await _existing(admin, list(names))


async def partition_counts(broker: Cluster, names: Iterable[str]) -> dict[str, int]:
    """The number of partitions of each named topic that exists. Needs only the right to describe them."""
    async with admin_client(broker) as admin:
        return {topic["topic"]: len(topic["partitions"]) for topic in await _described(admin, list(names))}


async def cluster_id_of(broker: Cluster) -> str:
    """The id that Kafka gave the cluster."""
    async with admin_client(broker) as admin:
        return str((await admin.describe_cluster())["cluster_id"])


async def topic_names(broker: Cluster) -> list[str]:
    """The names of all topics of the cluster, sorted."""
    async with admin_client(broker) as admin:
        return sorted(await admin.list_topics())


async def delete_topics(broker: Cluster, names: Collection[str]) -> None:
    """Delete the named topics with all their records; a topic that does not exist is no error."""
    async with admin_client(broker) as admin:
        response = await admin.delete_topics(list(names))
    for name, code, *_ in response.topic_error_codes:
        if code not in (0, _UNKNOWN_TOPIC):
            raise TopicRefusedError(f"{name}: {for_code(code).description}")


async def record_counts(broker: Cluster, topics: Iterable[ExistingTopic]) -> dict[str, int]:
    """How many offsets each topic holds: its records, or more where it is compacted or transactional."""
    partitions = [TopicPartition(topic.name, number) for topic in topics for number in range(topic.partitions)]
    if not partitions:
        return {}
    async with AIOKafkaConsumer(**broker.options) as consumer:
        first = await consumer.beginning_offsets(partitions)
        end = await consumer.end_offsets(partitions)
    counts = dict.fromkeys((partition.topic for partition in partitions), 0)
    for partition in partitions:
        counts[partition.topic] += end[partition] - first[partition]
    return counts


def _all_differences(expected: Iterable[ExpectedTopic], existing: Mapping[str, ExistingTopic]) -> list[Difference]:
    return [difference for topic in expected for difference in _differences(topic, existing.get(topic.name))]


def _differences(expected: ExpectedTopic, existing: ExistingTopic | None) -> list[Difference]:
    if existing is None:
        return [Difference(expected.name, "topic", None, "present")]
    compared = [
        ("partitions", str(existing.partitions), str(expected.partitions)),
        ("replication", str(existing.replication), str(expected.replication)),
        *((key, existing.config.get(key, "unknown"), value) for key, value in expected.settings.items()),
    ]
    return [Difference(expected.name, *setting) for setting in compared if not _is_met(*setting)]


def _is_met(what: str, seen: str, expected: str) -> bool:
    """More copies than expected are met too."""
    at_least = what in ("replication", _COPIES) and seen.isdigit()
    return int(seen) >= int(expected) if at_least else seen == expected


async def _existing(admin: AIOKafkaAdminClient, names: list[str]) -> dict[str, ExistingTopic]:
    described = await _described(admin, names)
    if not described:
        return {}
    partitions = {topic["topic"]: topic["partitions"] for topic in described}
    (response,) = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, name) for name in partitions])
    topics = {}
    for code, _, _, name, entries in response.resources:
        if code:
            raise for_code(code)(name)
        config = {key: value for key, value, *_ in entries}
        overrides = {key: value for key, value, _, source, *_ in entries if source == _SET_ON_TOPIC}
        copies = min(len(partition["replicas"]) for partition in partitions[name])
        topics[name] = ExistingTopic(name, len(partitions[name]), copies, config, overrides)
    return topics


async def _described(admin: AIOKafkaAdminClient, names: list[str]) -> list[dict[str, Any]]:
    topics = [topic for topic in await admin.describe_topics(names) if topic["error_code"] != _UNKNOWN_TOPIC]
    hidden = [topic["topic"] for topic in topics if topic["error_code"] == TopicAuthorizationFailedError.errno]
    if hidden:
        raise TopicAuthorizationFailedError(*hidden)
    refused = [topic["topic"] for topic in topics if topic["error_code"] == InvalidTopicError.errno]
    if refused:
        raise InvalidTopicError(*refused)
    return topics


async def _create(admin: AIOKafkaAdminClient, topics: list[ExpectedTopic]) -> None:
    new = [NewTopic(t.name, t.partitions, t.replication, topic_configs=dict(t.settings)) for t in topics]
    if new:
        _refuse_errors((await admin.create_topics(new)).topic_errors)


async def _repair(admin: AIOKafkaAdminClient, drifted: list[tuple[ExpectedTopic, ExistingTopic]]) -> None:
    # The request replaces every override of a topic, so it repeats those that others set.
    resources = [
        ConfigResource(ConfigResourceType.TOPIC, expected.name, {**existing.overrides, **_repaired(expected, existing)})
        for expected, existing in drifted
    ]
    if resources:
        (response,) = await admin.alter_configs(resources)
        _refuse_errors((name, code, message) for code, message, _, name in response.resources)


def _repaired(expected: ExpectedTopic, existing: ExistingTopic) -> dict[str, str]:
    """The expected settings, or the existing value where it meets them."""
    seen = {key: existing.config.get(key, "unknown") for key in expected.settings}
    return {key: seen[key] if _is_met(key, seen[key], value) else value for key, value in expected.settings.items()}


def _refuse_errors(results: Iterable[tuple[str, int, str | None]]) -> None:
    for name, code, message in results:
        if code:
            raise TopicRefusedError(f"{name}: {message or for_code(code).description}")
