"""The operations that a client needs, and those that Kafka's ACLs allow it."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import (
    ClusterAuthorizationFailedError,
    GroupAuthorizationFailedError,
    GroupCoordinatorNotAvailableError,
    IncompatibleBrokerVersion,
    KafkaError,
    TopicAuthorizationFailedError,
    TransactionalIdAuthorizationFailed,
)

from runtime.cluster import Cluster, admin_client
from runtime.consumer_groups import described_group
from runtime.topic_metadata import allowed_operations

Operation = Literal["Read", "Write", "Create", "Delete", "Describe", "DescribeConfigs", "AlterConfigs"]

# https://kafka.apache.org/protocol: the bit of each operation in `authorized_operations`.
_BITS: Mapping[str, int] = {
    "Read": 3, "Write": 4, "Create": 5, "Delete": 6, "Describe": 8, "DescribeConfigs": 10, "AlterConfigs": 11,
}  # fmt: skip
NOT_ALLOWED = (
    TopicAuthorizationFailedError,
    GroupAuthorizationFailedError,
    ClusterAuthorizationFailedError,
    TransactionalIdAuthorizationFailed,
)
# The answer of an older Kafka, which does not report operations.
_UNREPORTED = -(2**31)


@dataclass(frozen=True, slots=True)
class Grant:
    """Operations on resources of one kind; `prefixed` names are the beginnings of names."""

    operations: tuple[Operation, ...]
    resource: Literal["topic", "group"]
    names: tuple[str, ...]
    prefixed: bool = False


def refused_use(error: KafkaError) -> str:
    """The use that an error of `NOT_ALLOWED` refuses: aiokafka names the resource but not the operation."""
    kinds = ("topic", "group", "cluster", "transactional id")
    kind = next(kind for kind, kept in zip(kinds, NOT_ALLOWED, strict=True) if isinstance(error, kept))
    names = [name for arg in error.args for name in ([arg] if isinstance(arg, str) else arg)]
    return f"to use {kind} {', '.join(sorted(names))}" if names else f"to use a {kind}"


async def missing_access(cluster: Cluster, grants: Collection[Grant]) -> list[str]:
    """The granted operations that Kafka would refuse us, as "Read on topic leads". Raises `KafkaError`.

    Topics that do not exist and prefixes are not checked.
    """
    needed: dict[tuple[str, str], dict[Operation, None]] = {}
    for grant in grants:
        for name in () if grant.prefixed else grant.names:
            needed.setdefault((grant.resource, name), {}).update(dict.fromkeys(grant.operations))
    async with admin_client(cluster) as admin:
        topics = await allowed_operations(admin._client, [name for kind, name in needed if kind == "topic"])
        allowed = {
            (kind, name): _on_topic(*topics.get(name, (0, _UNREPORTED)))
            if kind == "topic"
            else await _on_group(admin, name)
            for kind, name in needed
        }
    return [
        f"{operation} on {kind} {name}"
        for (kind, name), operations in needed.items()
        for operation in operations
        if allowed[kind, name] != _UNREPORTED and not allowed[kind, name] >> _BITS[operation] & 1
    ]


def _on_topic(error: int, operations: int) -> int:
    if error:
        return 0 if error == TopicAuthorizationFailedError.errno else _UNREPORTED
    return operations


async def _on_group(admin: AIOKafkaAdminClient, name: str) -> int:
    try:
        error, *_, operations = await described_group(admin, name, operations=True)
    except GroupAuthorizationFailedError:
        return 0
    except (GroupCoordinatorNotAvailableError, IncompatibleBrokerVersion, NotImplementedError):
        return _UNREPORTED
    return 0 if error == GroupAuthorizationFailedError.errno else int(operations)
