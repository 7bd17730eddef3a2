"""A consumer group as Kafka describes it."""

import asyncio
from collections.abc import Collection
from typing import Any

from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import GroupCoordinatorNotAvailableError
from aiokafka.protocol.admin import DescribeGroupsRequest_v3, DescribeGroupsResponse_v3

from runtime.cluster import Cluster, admin_client

_TRIES, _SECONDS_BETWEEN = 60, 0.25

# aiokafka reads this answer as version 2, without the allowed operations.
DescribeGroupsRequest_v3.RESPONSE_TYPE = DescribeGroupsResponse_v3


async def is_running(broker: Cluster, group: str) -> bool:
    """Whether the consumer group has a member. Raises `KafkaError`."""
    async with admin_client(broker) as admin:
        return bool(await members_of(admin, group))


async def members_of(admin: AIOKafkaAdminClient, group: str) -> int:
    """How many members a consumer group has. Raises `KafkaError`."""
    _, _, _, _, _, members, *_ = await described_group(admin, group)
    return len(members)


async def committed_offsets(
    admin: AIOKafkaAdminClient, group: str, partitions: Collection[TopicPartition]
) -> dict[TopicPartition, int]:
    """The offsets that the group has committed; a partition without one is left out. Raises `KafkaError`."""
    committed = await admin.list_consumer_group_offsets(group, partitions=list(partitions))
    return {place: found.offset for place, found in committed.items() if found.offset >= 0}


async def described_group(admin: AIOKafkaAdminClient, group: str, *, operations: bool = False) -> tuple[Any, ...]:
    """The group in Kafka's answer, with the allowed `operations` at its end. Raises `KafkaError`."""
    tries = 0
    while True:
        try:
            [answer] = await admin.describe_consumer_groups([group], include_authorized_operations=operations)
            [described] = answer.groups
            return tuple(described)
        except GroupCoordinatorNotAvailableError:
            # A new broker makes its coordinator when it is first asked for.
            if (tries := tries + 1) == _TRIES:
                raise
            await asyncio.sleep(_SECONDS_BETWEEN)
