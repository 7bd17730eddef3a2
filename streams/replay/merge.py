"""Several partitions read as one log, in the order in which the broker received their records."""

from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from datetime import datetime

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from streams.records import received_at

Received = tuple[datetime, ConsumerRecord]
_READ = {"timeout_ms": 1000, "max_records": 4000}


async def in_order_of_receipt(
    consumer: AIOKafkaConsumer,
    spans: Mapping[TopicPartition, range],
    on_read: Callable[[int], None],
    wanted: Callable[[ConsumerRecord], bool],
) -> AsyncIterator[list[ConsumerRecord]]:
    """The `wanted` records of the spans in runs of any length, each run after the one before by their time of receipt.

    Several records of one millisecond may be spread over two runs. `on_read` gets counts of all that is read.
    """
    unread = {partition for partition, span in spans.items() if span}
    waiting: dict[TopicPartition, deque[Received]] = {partition: deque() for partition in unread}
    # Receipt can run backwards by as much as clocks differ.
    reached: dict[TopicPartition, datetime] = {}
    consumer.assign(sorted(unread))
    for partition in unread:
        consumer.seek(partition, spans[partition].start)
    while unread or any(waiting.values()):
        hungry = [partition for partition in unread if not waiting[partition]]
        if not hungry:
            yield _up_to(min((reached[partition] for partition in unread), default=None), waiting)
            continue
        found = await consumer.getmany(*hungry, **_READ)
        for partition, records in found.items():
            inside = [record for record in records if record.offset < spans[partition].stop]
            for record in filter(wanted, inside):
                received = received_at(record)
                waiting[partition].append((received, record))
                reached[partition] = max(received, reached.get(partition, received))
            on_read(len(inside))
        # Offsets can end in a gap, which moves the position and shows no record.
        unread -= {partition for partition in hungry if await consumer.position(partition) >= spans[partition].stop}


def _up_to(moment: datetime | None, waiting: Mapping[TopicPartition, deque[Received]]) -> list[ConsumerRecord]:
    run: list[Received] = []
    for records in waiting.values():
        while records and (moment is None or records[0][0] <= moment):
            run.append(records.popleft())
    run.sort(key=lambda received: (received[0], received[1].topic, received[1].partition, received[1].offset))
    return [record for _, record in run]
