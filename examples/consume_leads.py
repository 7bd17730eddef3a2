"""Reads `leads` from the beginning to the end and prints the newest revision of each.

LEADSTREAM_BROKER=127.0.0.1:9092 python examples/consume_leads.py
"""

import asyncio
import logging
import os
import sys
from collections.abc import Iterable

from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaConnectionError, UnknownTopicOrPartitionError

from leads.records import Lead
from runtime.cluster import Cluster, cluster_of
from runtime.settings import SettingError, read_settings
from schemas.codec import lead_codec
from schemas.topics import LEADS


async def newest_leads(cluster: Cluster, topic: str = LEADS.name) -> list[Lead]:
    """The leads of a topic as they stand now, in the order in which they were first seen."""
    # Without a group nothing is committed and nobody else is disturbed: all partitions are read, from the beginning.
    consumer = AIOKafkaConsumer(topic, **cluster.options, group_id=None, auto_offset_reset="earliest")
    try:
        await consumer.start()
        leads = await _read_to_the_end(consumer)
    finally:
        await consumer.stop()
    return sorted(leads, key=lambda lead: (lead.first_seen_at, lead.lead_id))


async def _read_to_the_end(consumer: AIOKafkaConsumer) -> Iterable[Lead]:
    codec = lead_codec()
    newest: dict[str, Lead] = {}
    ends = await consumer.end_offsets(consumer.assignment())
    while any([await consumer.position(partition) < end for partition, end in ends.items()]):
        for records in (await consumer.getmany(timeout_ms=500)).values():
            for record in records:
                if record.value is None:
                    # A tombstone says that the lead was erased.
                    newest.pop(record.key.decode(), None)
                    continue
                lead = codec.decode(record.value)
                # Delivery is at least once: a revision can come twice, and an older one after a newer.
                if lead.lead_id not in newest or lead.revision > newest[lead.lead_id].revision:
                    newest[lead.lead_id] = lead
    return newest.values()


def main() -> None:
    settings = read_settings({"LEADSTREAM_BROKER": "127.0.0.1:9092", **os.environ})
    logging.getLogger("aiokafka").addHandler(logging.NullHandler())
    try:
        leads = asyncio.run(newest_leads(cluster_of(settings), settings.topic(LEADS.name)))
    except SettingError as fault:
        sys.exit(str(fault))
    except KafkaConnectionError:
        sys.exit(f"no Kafka answers at {settings.broker}: `leadstream doctor` says why")
    except UnknownTopicOrPartitionError:
        sys.exit(f"the Kafka at {settings.broker} has no leads: see `leadstream topics list`")
    for lead in leads:
        answers = "; ".join(f"{pair.question} {pair.answer}" for pair in lead.answers)
        print(f"{lead.first_seen_at:%Y-%m-%d %H:%M:%S} {lead.outcome:<10} revision {lead.revision} {answers}")  # noqa: T201
    print(f"{len(leads)} leads")  # noqa: T201


if __name__ == "__main__":
    main()
