"""The Kafka and the schema ids of leadstream's settings, and every fault on the way as a `ClientError`."""

import logging
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

from aiokafka.errors import KafkaError

from leadstream.errors import ClientError
from runtime.access import NOT_ALLOWED, refused_use
from runtime.cluster import Cluster, cluster_of, local_cluster
from runtime.kafka import only_kafka_errors
from runtime.kafka_probe import find_fault
from runtime.losses import OutOfReach
from runtime.mendable import Mendable
from runtime.settings import read_settings
from runtime.topic_admin import partition_counts
from schemas.codec import Ids
from schemas.registry_client import find_ids
from schemas.topics import Topic

# Their faults end as a `ClientError`; without a handler their lines would reach the terminal too.
for name in ("aiokafka", "runtime"):
    logging.getLogger(name).addHandler(logging.NullHandler())


@dataclass(frozen=True, slots=True)
class Connection:
    """A Kafka with leadstream's topics, and the ids of their schemas."""

    cluster: Cluster
    ids: Ids
    prefix: str

    async def partitions(self, topic: Topic) -> int:
        """How many partitions the topic has. Raises `ClientError` where it does not exist."""
        name = f"{self.prefix}{topic.name}"
        async with one_line_faults(self.cluster):
            counts = await partition_counts(self.cluster, [name])
        if name not in counts:
            raise ClientError(
                f"the Kafka at {self.cluster} has no topic {name}: `leadstream topics apply` makes it;"
                " LEADSTREAM_TOPIC_PREFIX is in front of its name"
            )
        return counts[name]


async def connect(environ: Mapping[str, str] | None) -> Connection:
    """The connection that these variables describe, or those of the process. Raises `ClientError`."""
    try:
        settings = read_settings(os.environ if environ is None else environ)
        local = f"127.0.0.1:{settings.kafka_port}"
        cluster = cluster_of(settings) if settings.broker else local_cluster(settings, local)
        return Connection(cluster, await find_ids(settings), settings.topic_prefix)
    except Mendable as fault:
        raise ClientError(str(fault)) from None


@asynccontextmanager
async def one_line_faults(cluster: Cluster) -> AsyncIterator[None]:
    """Raise `ClientError` for whatever keeps us from the Kafka or is refused by it."""
    try:
        with only_kafka_errors():
            yield
    except OutOfReach as fault:
        raise ClientError(str(fault)) from None
    except NOT_ALLOWED as fault:
        problem = (
            f"no ACL of Kafka allows {cluster.principal} {refused_use(fault)}: docs/client.md has all that it needs"
        )
        raise ClientError(problem) from fault
    except KafkaError as fault:
        reason = await find_fault(cluster)
        raise ClientError(str(reason or f"Kafka refused: {type(fault).__name__}")) from fault
