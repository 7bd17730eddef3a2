"""The operations that a client needs, and those that Kafka's ACLs allow it."""

import asyncio
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

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
from aiokafka.protocol.admin import DescribeGroupsResponse_v3
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import Array, Boolean, Int16, Int32, Schema, String

from runtime.cluster import Cluster

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
_ATTEMPTS, _RETRY_AFTER = 60, 0.25


@dataclass(frozen=True, slots=True)
class Grant:
    """Operations on resources of one kind; `prefixed` names are the beginnings of names."""

    operations: tuple[Operation, ...]
    resource: Literal["topic", "group"]
    names: tuple[str, ...]
    prefixed: bool = False


@dataclass(frozen=True, slots=True)
class Missing:
    """An operation that no ACL allows us."""

    operation: str
    resource: str
    name: str

    def __str__(self) -> str:
        return f"{self.operation} on {self.resource} {self.name}"


def refused_use(error: KafkaError) -> str:
    """The use that an error of `NOT_ALLOWED` refuses: aiokafka names the resource but not the operation."""
    kinds = ("topic", "group", "cluster", "transactional id")
    kind = next(kind for kind, kept in zip(kinds, NOT_ALLOWED, strict=True) if isinstance(error, kept))
    names = [name for arg in error.args for name in ([arg] if isinstance(arg, str) else arg)]
    return f"to use {kind} {', '.join(sorted(names))}" if names else f"to use a {kind}"


async def missing_access(cluster: Cluster, grants: Collection[Grant]) -> list[Missing]:
    """The granted operations that Kafka would refuse us, by topic and group. Raises `KafkaError`.

    Topics that do not exist and prefixes are not checked.
    """
    admin = AIOKafkaAdminClient(**cluster.options)
    try:
        await admin.start()
        needed = dict(_needed(grants))
        allowed = {
            **await _allowed_on_topics(admin, [name for resource, name in needed if resource == "topic"]),
            **{("group", name): await _allowed_on_group(admin, name) for kind, name in needed if kind == "group"},
        }
    finally:
        await admin.close()
    return [
        Missing(operation, *place)
        for place, operations in needed.items()
        for operation in operations
        if not _has(allowed.get(place, _UNREPORTED), operation)
    ]


def _needed(grants: Iterable[Grant]) -> Iterator[tuple[tuple[str, str], list[str]]]:
    needed: dict[tuple[str, str], list[str]] = {}
    for grant in grants:
        for name in () if grant.prefixed else grant.names:
            operations = needed.setdefault((grant.resource, name), [])
            operations += [operation for operation in grant.operations if operation not in operations]
    yield from needed.items()


def _has(allowed: int, operation: str) -> bool:
    return allowed == _UNREPORTED or bool(allowed >> _BITS[operation] & 1)


async def _allowed_on_topics(admin: AIOKafkaAdminClient, names: list[str]) -> dict[tuple[str, str], int]:
    try:
        answer = await admin._send_request(_OperationsOnTopics(names))
    except (IncompatibleBrokerVersion, NotImplementedError):
        return {}
    allowed = {("topic", name): bits for code, name, _, _, bits in answer.topics if code == 0}
    hidden = {("topic", name): 0 for code, name, *_ in answer.topics if code == TopicAuthorizationFailedError.errno}
    return allowed | hidden


async def _allowed_on_group(admin: AIOKafkaAdminClient, name: str) -> int:
    for _ in range(_ATTEMPTS):
        try:
            coordinator = await admin.find_coordinator(name)
            answer = await admin._send_request(_OperationsOnGroup(name), coordinator)
        except GroupAuthorizationFailedError:
            return 0
        except (IncompatibleBrokerVersion, NotImplementedError):
            return _UNREPORTED
        except GroupCoordinatorNotAvailableError:
            # A new cluster creates its coordinator at the first request.
            await asyncio.sleep(_RETRY_AFTER)
            continue
        [(code, *_, bits)] = answer.groups
        return 0 if code == GroupAuthorizationFailedError.errno else int(bits)
    return _UNREPORTED


class _MetadataResponse(Response):  # type: ignore[misc] # aiokafka is untyped to us
    API_KEY = 3
    API_VERSION = 8
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        ("brokers", Array(("node_id", Int32), ("host", String()), ("port", Int32), ("rack", String()))),
        ("cluster_id", String()),
        ("controller_id", Int32),
        (
            "topics",
            Array(
                ("error_code", Int16),
                ("topic", String()),
                ("is_internal", Boolean),
                (
                    "partitions",
                    Array(
                        ("error_code", Int16),
                        ("partition", Int32),
                        ("leader", Int32),
                        ("leader_epoch", Int32),
                        ("replicas", Array(Int32)),
                        ("isr", Array(Int32)),
                        ("offline_replicas", Array(Int32)),
                    ),
                ),
                ("authorized_operations", Int32),
            ),
        ),
        ("cluster_authorized_operations", Int32),
    )


class _MetadataRequest(RequestStruct):  # type: ignore[misc]
    API_KEY = 3
    API_VERSION = 8
    RESPONSE_TYPE = _MetadataResponse
    SCHEMA = Schema(
        ("topics", Array(String())),
        ("allow_auto_topic_creation", Boolean),
        ("include_cluster_authorized_operations", Boolean),
        ("include_topic_authorized_operations", Boolean),
    )


class _OperationsOnTopics(Request[_MetadataRequest]):  # type: ignore[misc]
    """The version of Metadata that reports allowed operations, which aiokafka lacks."""

    API_KEY = 3

    def __init__(self, topics: list[str]) -> None:
        self._topics = topics

    def build(self, request_struct_class: type[_MetadataRequest]) -> Any:
        return request_struct_class(self._topics, False, False, True)  # noqa: FBT003 - Kafka's fields, in order


class _DescribeGroupsRequest(RequestStruct):  # type: ignore[misc]
    API_KEY = 15
    API_VERSION = 3
    RESPONSE_TYPE = DescribeGroupsResponse_v3
    SCHEMA = Schema(("groups", Array(String())), ("include_authorized_operations", Boolean))


class _OperationsOnGroup(Request[_DescribeGroupsRequest]):  # type: ignore[misc]
    """DescribeGroups 3, whose answer aiokafka reads as version 2, without the allowed operations."""

    API_KEY = 15

    def __init__(self, group: str) -> None:
        self._group = group

    def build(self, request_struct_class: type[_DescribeGroupsRequest]) -> Any:
        return request_struct_class([self._group], True)  # noqa: FBT003
