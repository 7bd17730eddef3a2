"""The members of a consumer group."""

import asyncio

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import GroupCoordinatorNotAvailableError

from runtime.cluster import Cluster

_TRIES, _SECONDS_BETWEEN = 60, 0.25


async def sink_is_running(broker: Cluster, group: str) -> bool:
    """Whether the consumer group has a member. Raises `KafkaError`."""
    admin = AIOKafkaAdminClient(**broker.options)
    try:
        await admin.start()
        return bool(await members_of(admin, group))
    finally:
        await admin.close()


async def members_of(admin: AIOKafkaAdminClient, group: str) -> int:
    """How many members a consumer group has. Raises `KafkaError`."""
    for tries_left in reversed(range(_TRIES)):
        try:
            [answer] = await admin.describe_consumer_groups([group])
            return sum(len(members) for _, _, _, _, _, members, *_ in answer.groups)
        except GroupCoordinatorNotAvailableError:
            # A new broker makes its coordinator when it is first asked for.
            if not tries_left:
                raise
            await asyncio.sleep(_SECONDS_BETWEEN)
    return 0
