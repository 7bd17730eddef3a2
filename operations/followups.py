"""One lead and the outcomes of the commands to its person, as the topics have them now."""

from collections.abc import Callable, Mapping

from aiokafka import AIOKafkaConsumer

from leads.records import FollowUpOutcome, Lead
from operations.deployment import Deployment
from operations.reporting import OperationError, Progress
from runtime import kafka
from runtime.topic_reading import whole_topic
from schemas.codec import NotDecodable, lead_codec, outcome_codec
from schemas.topics import LEADS, OUTCOMES


async def lead_and_outcomes(
    deployment: Deployment, lead_id: str, progress: Progress
) -> tuple[Lead, Mapping[str, FollowUpOutcome]]:
    """The newest revision of a lead, and the newest outcome of each command to its person, by command id.

    Raises `OperationError`, also for an unknown lead, and `KafkaError`.
    """
    await deployment.require_topics()
    consumer = kafka.consumer(deployment.broker, group=None, client_id="leadstream-followups")
    try:
        async with consumer:
            with progress.count("records read") as on_read:
                lead = await _newest(consumer, deployment, lead_id, on_read)
                if lead is None:
                    topic = deployment.topic(LEADS)
                    raise OperationError(f"no lead {lead_id} in {topic}: see `leadstream leads list`")
                return lead, await _outcomes(consumer, deployment, lead, on_read)
    except NotDecodable as fault:
        raise OperationError(f"a record cannot be read: {fault}") from None


async def _newest(
    consumer: AIOKafkaConsumer, deployment: Deployment, lead_id: str, on_read: Callable[[int], None]
) -> Lead | None:
    codec, newest = lead_codec(deployment.ids), None
    async for records in whole_topic(consumer, deployment.topic(LEADS), deployment.settings.partitions):
        on_read(len(records))
        for record in records:
            if record.key == lead_id.encode():
                lead = None if record.value is None else codec.decode(record.value)
                is_older = lead is not None and newest is not None and lead.revision < newest.revision
                newest = newest if is_older else lead
    return newest


async def _outcomes(
    consumer: AIOKafkaConsumer, deployment: Deployment, lead: Lead, on_read: Callable[[int], None]
) -> Mapping[str, FollowUpOutcome]:
    codec, outcomes = outcome_codec(deployment.ids), dict[str, FollowUpOutcome]()
    async for records in whole_topic(consumer, deployment.topic(OUTCOMES), deployment.settings.partitions):
        on_read(len(records))
        for record in records:
            if record.value is None:
                outcomes.pop((record.key or b"").decode(errors="replace"), None)
                continue
            outcome = codec.decode(record.value)
            if (outcome.page_id, outcome.psid) == (lead.page_id, lead.psid):
                outcomes[outcome.command_id] = outcome
    return outcomes
