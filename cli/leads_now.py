"""The leads as they are now, for commands that look at all of them."""

from cli.topics import require_topics
from leads.records import Lead
from runtime import kafka
from runtime.cluster import Cluster
from runtime.settings import Settings
from runtime.topic_reader import whole_topic
from schemas.codec import Ids, lead_codec
from schemas.topics import LEADS


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
