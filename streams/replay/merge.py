"""Several partitions read as one log, in the order in which the broker received their records."""

from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

_READ = {"timeout_ms": 1000, "max_records": 4000}


async def in_order_of_receipt(
    consumer: AIOKafkaConsumer,
    spans: Mapping[TopicPartition, range],
    on_read: Callable[[int], None],
    wanted: Callable[[ConsumerRecord], bool],
) -> AsyncIterator[list[ConsumerRecord]]:
    """The `wanted` records of the spans in runs of any length, each run after the one before by their Kafka timestamps.

    Several records of one millisecond may be spread over two runs. `on_read` gets counts of all that is read.
    """
    unread = {one for one, span in spans.items() if span}
    waiting: dict[TopicPartition, deque[ConsumerRecord]] = {one: deque() for one in unread}
    consumer.assign(sorted(unread))
    for one in unread:
        consumer.seek(one, spans[one].start)
    while unread or any(waiting.values()):
        hungry = [one for one in unread if not waiting[one]]
        if not hungry:
            yield _up_to(min((waiting[one][-1].timestamp for one in unread), default=None), waiting)
            continue
        found = await consumer.getmany(*hungry, **_READ)
        for one, records in found.items():
            inside = [record for record in records if record.offset < spans[one].stop]
            waiting[one].extend(filter(wanted, inside))
            on_read(len(inside))
        # Offsets can end in a gap, which moves the position and shows no record.
        unread -= {one for one in hungry if await consumer.position(one) >= spans[one].stop}


def _up_to(timestamp: int | None, waiting: Mapping[TopicPartition, deque[ConsumerRecord]]) -> list[ConsumerRecord]:
    run: list[ConsumerRecord] = []
    for records in waiting.values():
        while records and (timestamp is None or records[0].timestamp <= timestamp):
            run.append(records.popleft())
    run.sort(key=lambda record: (record.timestamp, record.topic, record.partition, record.offset))
    return run
