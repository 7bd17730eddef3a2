"""A follow-up automation of your own: reads `leads`, and writes commands that the rules in YAML cannot express.

Here: who is interested in becoming a reseller gets a link that holds the number of the lead. The send sink does the
rest, as for any command: once, inside the window, and never while somebody else has the thread.

LEADSTREAM_BROKER=127.0.0.1:9092 python examples/follow_up_automation.py
"""

import asyncio
import logging
import os
import signal
import sys
from uuid import NAMESPACE_URL, uuid5

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.errors import KafkaConnectionError

from leads.records import Button, FollowUpMessage, Lead, SendFollowUp
from messenger.events import person_key
from messenger.wording import normal_text
from runtime.cluster import Cluster, cluster_of
from runtime.settings import SettingError, read_settings
from schemas.codec import command_codec, lead_codec
from schemas.topics import COMMANDS, LEADS

RULE = "reseller-link"
QUESTION = "Are you interested in becoming a reseller?"


def follow_up(lead: Lead) -> SendFollowUp | None:
    """The command for a lead, None for a lead that is none of our business."""
    asked = normal_text(QUESTION)
    answer = next((pair.answer for pair in lead.answers if normal_text(pair.question) == asked), None)
    if lead.outcome != "complete" or answer != "Yes":
        return None
    # The same lead gives the same id, however often it is read: the send sink settles each id once.
    number = uuid5(NAMESPACE_URL, f"{RULE}:{lead.lead_id}")
    link = Button("web_url", "Become a reseller", url=f"https://example.com/resellers/{number}")
    window = (lead.messaging_window_closes_at, lead.thread_control_expires_at or lead.messaging_window_closes_at)
    return SendFollowUp(
        command_id=str(number),
        lead_id=lead.lead_id,
        page_id=lead.page_id,
        psid=lead.psid,
        rule=RULE,
        step=1,
        # What was received after this cancels the command; our own clock may be wrong and says nothing here.
        created_at=lead.updated_at,
        not_before=lead.updated_at,
        not_after=min(window),
        message=FollowUpMessage("Here is all that a reseller needs:", buttons=(link,)),
        cancel_on=("reply", "human", "control_lost"),
    )


async def run(cluster: Cluster, stop: asyncio.Event, *, prefix: str = "") -> None:
    """Follow leads up until `stop` is set."""
    consumer = AIOKafkaConsumer(
        prefix + LEADS.name,
        **cluster.options,
        group_id=f"{prefix}{RULE}",
        enable_auto_commit=False,
        auto_offset_reset="earliest",
    )
    # Commands of a person lie where the send sink looks for them only if the key is theirs.
    producer = AIOKafkaProducer(**cluster.options, acks="all", enable_idempotence=True)
    leads, commands = lead_codec(), command_codec()
    async with consumer, producer:
        while not stop.is_set():
            for records in (await consumer.getmany(timeout_ms=500)).values():
                for record in records:
                    lead = leads.decode(record.value) if record.value is not None else None
                    command = follow_up(lead) if lead is not None else None
                    if command is not None:
                        key = person_key(command.page_id, command.psid).encode()
                        await producer.send(prefix + COMMANDS.name, commands.encode(command), key=key)
            # In this order: what is committed before its command is durable would be lost by a crash.
            await producer.flush()
            if consumer.assignment():
                await consumer.commit()


async def main() -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    settings = read_settings({"LEADSTREAM_BROKER": "127.0.0.1:9092", **os.environ})
    logging.getLogger("aiokafka").addHandler(logging.NullHandler())
    try:
        await run(cluster_of(settings), stop, prefix=settings.topic_prefix)
    except SettingError as fault:
        sys.exit(str(fault))
    except KafkaConnectionError:
        sys.exit(f"no Kafka answers at {settings.broker}: `leadstream doctor` says why")


if __name__ == "__main__":
    asyncio.run(main())
