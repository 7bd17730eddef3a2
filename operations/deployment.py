"""What a deployment has in Kafka: its topics, its leads and its erasures as they are now, its schema ids."""

import asyncio

import click

from leads.erasures import Erasures
from leads.records import Lead
from runtime import kafka
from runtime.cluster import Cluster
from runtime.settings import Settings
from runtime.topic_admin import Difference, WantedTopic, partition_counts, partitions_advice
from runtime.topic_reading import TopicFollower, whole_topic
from schemas.codec import BUILT_IN, Ids, lead_codec
from schemas.registry_client import RegistryFault, registry_client, registry_ids
from schemas.topics import ERASURES, LEADS, TOPICS


def wanted_topics(settings: Settings) -> list[WantedTopic]:
    """Every topic of the table as this deployment wants it."""
    return [
        WantedTopic(
            settings.topic(topic.name),
            settings.partitions,
            settings.replication,
            topic.settings_for(settings.retention),
        )
        for topic in TOPICS
    ]


async def require_topics(settings: Settings, broker: Cluster) -> None:
    """A `ClickException` unless every topic is there with `settings.partitions`.

    With another count the join would wait for partitions that are not there, or records would be left unread.
    """
    names = [settings.topic(topic.name) for topic in TOPICS]
    counts = await partition_counts(broker, names)
    missing = [name for name in names if name not in counts]
    if missing:
        raise click.ClickException(f"{', '.join(missing)}: no such topic; run `leadstream topics apply`")
    found = [
        Difference(name, "partitions", str(counts[name]), str(settings.partitions))
        for name in names
        if counts[name] != settings.partitions
    ]
    advice = partitions_advice(found, len(TOPICS))
    if advice is not None:
        raise click.ClickException(f"LEADSTREAM_PARTITIONS is {settings.partitions}: {advice}")


async def leads_now(settings: Settings, broker: Cluster, ids: Ids) -> dict[str, Lead]:
    """The newest revision of each lead by id; one that was erased is not there. Raises `NotDecodable`, `KafkaError`."""
    await require_topics(settings, broker)
    codec, newest = lead_codec(ids), dict[str, Lead]()
    async with kafka.consumer(broker, group=None, client_id="leadstream-leads") as consumer:
        async for records in whole_topic(consumer, settings.topic(LEADS.name), settings.partitions):
            for record in records:
                if record.value is None:
                    newest.pop(record.key.decode(errors="replace"), None)
                    continue
                lead = codec.decode(record.value)
                if lead.lead_id not in newest or lead.revision >= newest[lead.lead_id].revision:
                    newest[lead.lead_id] = lead
    return newest


async def erasures_now(settings: Settings, broker: Cluster) -> Erasures:
    """Raises `TopicMissing` where the topic is missing, or `KafkaError`."""
    found = Erasures()
    follower = TopicFollower(broker, settings.topic(ERASURES.name), found.note, client_id="leadstream-erasures")
    try:
        await follower.start()
    finally:
        await follower.stop()
    return found


def schema_ids(settings: Settings) -> Ids:
    """Registers our schemas where another registry is set; a `ClickException` when it does not take them."""
    return BUILT_IN if settings.schema_registry_url is None else asyncio.run(_registered(settings))


async def _registered(settings: Settings) -> Ids:
    try:
        async with registry_client(settings) as registry:
            return await registry_ids(registry, settings.topic_prefix)
    except RegistryFault as fault:
        raise click.ClickException(str(fault)) from None
