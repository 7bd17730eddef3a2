"""Explain an id: find what it stands for, read its records, and order them into a timeline."""

import asyncio
from datetime import datetime

from aiokafka import AIOKafkaConsumer, TopicPartition

from leads.pages import Pages
from leads.rules import Caps, Rules
from operations.dead_letters.letters import Known, read_letter
from operations.dead_letters.redrive import MOST_REDRIVES, remembered
from operations.deployment import Deployment
from operations.explain.assemble import of_letter, timeline_of
from operations.explain.finding import Finder, Subject, require_id
from operations.explain.reading import PersonReader, spans_between
from operations.explain.records import Ground, Kept, Records
from operations.explain.timeline import Moment, Timeline, in_order
from operations.explain.warehouse import rows_of
from operations.explain.webhooks import of_event, of_webhook
from operations.reporting import NothingFound, Progress
from runtime import kafka
from runtime.topic_reading import read_spans
from schemas.topics import WEBHOOKS


async def explain(
    deployment: Deployment, subject: str, pages: Pages, rules: Rules, caps: Caps, now: datetime, progress: Progress
) -> Timeline:
    """The timeline of a lead id, `page:psid`, a command id, a delivery id, or topic/partition/offset.

    The timeline of a lead, a command or a delivery is that of its person from a day before. Raises `NothingFound`
    for an id that nothing has, and `OperationError`, `KafkaError`.
    """
    await deployment.require_topics()
    # A consumer that is stopped before its first read raises `CancelledError`.
    require_id(subject, deployment)
    async with kafka.consumer(deployment.broker, group=None, client_id="leadstream-explain") as consumer:
        found = await Finder(deployment, consumer, pages, progress).find(subject)
        if found.page_id is None or found.psid is None:
            return await _of_deliveries(deployment, consumer, subject, found)
        records = Records(found.page_id, found.psid)
        records.erased_until = (await deployment.erasures_now()).until(found.page_id, found.psid)
        reader = PersonReader(deployment, consumer, records, pages, progress, found.since)
        await reader.their_partition()
        await reader.state_of_the_join()
        await reader.revisions(found.lead_ids)
        await reader.hand_off()
        records.webhooks = {webhook.place: webhook for webhook in found.deliveries if records.erased_until is None}
        await reader.webhooks()
        await reader.letters()
    records.rows = await asyncio.to_thread(rows_of, deployment.settings.warehouse, records.page_id, records.psid)
    ground = Ground(pages.get(records.page_id), rules, caps, now)
    timeline = timeline_of(subject, records, ground)
    if all(moment.kind == "row" for moment in timeline.moments):
        raise NothingFound("the topics have nothing of this person")
    return timeline


async def _of_deliveries(deployment: Deployment, consumer: AIOKafkaConsumer, subject: str, found: Subject) -> Timeline:
    """A delivery about nobody, or about several people: its items, and what was refused of it."""
    moments: list[Moment] = []
    for webhook in found.deliveries:
        events = webhook.events
        moments += [*of_webhook(webhook, len(events)), *(of_event(event, None) for event in events)]
    places = {(webhook.place.partition, webhook.place.offset) for webhook in found.deliveries}
    faulty = [webhook for webhook in found.deliveries if webhook.fault is not None or webhook.faults]
    if faulty:
        name = deployment.settings.topic(WEBHOOKS.dead_letters)
        partitions = [TopicPartition(name, number) for number in range(deployment.settings.partitions)]
        spans = await spans_between(consumer, partitions, min(webhook.at for webhook in faulty))
        read = [read_letter(record, deployment.topic(WEBHOOKS)) async for record in read_spans(consumer, spans)]
        gone, discards = await remembered(deployment)
        known = Known(gone, {}, MOST_REDRIVES, discards)
        of_theirs = [letter for letter in read if letter.origin in places]
        moments += [of_letter(Kept(each, known.standing(each), discards.get(each.id))) for each in of_theirs]
    return Timeline(subject, None, None, (), in_order(moments))
