"""Records handed to a producer in whole batches: one future for each batch, where `send` makes one for each record."""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from aiokafka import AIOKafkaProducer

from runtime.kafka import partition_of

# Topic, key, value, headers, partition; None as the partition lets the key decide.
Outgoing = tuple[str, bytes | None, bytes | None, Sequence[tuple[str, bytes]] | None, int | None]

Delivery = asyncio.Future[Any]


async def hand_over(
    producer: AIOKafkaProducer, records: Iterable[Outgoing], watch: Callable[[Delivery], object]
) -> None:
    """Give the producer a batch for each partition, or several where one would be too large.

    Records keep their order in a partition. `watch` gets the delivery of each batch. Waits only for room in the
    producer's buffer. Raises `KafkaError`.
    """
    by_partition: defaultdict[tuple[str, int], list[Outgoing]] = defaultdict(list)
    for record in records:
        topic, key, _, _, partition = record
        if partition is None:
            partition = partition_of(key or b"", len(await producer.partitions_for(topic)))
        by_partition[topic, partition].append(record)
    await asyncio.gather(*[_hand_over(producer, *place, group, watch) for place, group in by_partition.items()])


async def _hand_over(
    producer: AIOKafkaProducer,
    topic: str,
    partition: int,
    records: Sequence[Outgoing],
    watch: Callable[[Delivery], object],
) -> None:
    rest = iter(records)
    record = next(rest, None)
    while record is not None:
        batch = producer.create_batch()
        # A batch takes its first record however large it is, and None is its answer once it is full.
        while record is not None and _append(batch, record) is not None:
            record = next(rest, None)
        watch(await producer.send_batch(batch, topic, partition=partition))


def _append(batch: Any, record: Outgoing) -> Any:
    _, key, value, headers, _ = record
    return batch.append(timestamp=None, key=key, value=value, headers=headers)
