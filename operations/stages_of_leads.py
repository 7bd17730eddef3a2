"""Write a stage that a lead has come to, as a CRM does."""

from datetime import datetime, timedelta

from leads.records import LeadStage, stage_id
from messenger.limits import ID_MAX
from operations.access import require_access
from operations.deployment import Deployment
from operations.reporting import OperationError, Progress
from runtime import kafka
from runtime.clock import now
from schemas.codec import stage_codec
from schemas.topics import STAGES

_CLIENT = "leadstream-stages"
_CLOCKS_DIFFER = timedelta(minutes=1)


async def set_stage(
    deployment: Deployment, lead_id: str, stage: str, at: datetime | None, source: str, progress: Progress
) -> LeadStage:
    """Write that the lead came to the stage, at this time or now; durable when this returns.

    Raises `OperationError`, also for an unknown lead, an unusable name or a time to come, and `KafkaError`.
    """
    if not 0 < len(stage.strip()) <= ID_MAX or len(source) > ID_MAX:
        raise OperationError(f"a stage has a name of 1 to {ID_MAX} characters, and its source no more")
    if at is not None and at > now() + _CLOCKS_DIFFER:
        raise OperationError("this time is still to come")
    await require_access(deployment, "stages")
    with progress.count("records read") as on_read:
        lead = await deployment.lead_now(lead_id, on_read)
    record = LeadStage(
        lead_id=lead.lead_id,
        page_id=lead.page_id,
        psid=lead.psid,
        stage=stage,
        occurred_at=at or now(),
        stage_id=stage_id(lead.lead_id, stage),
        source=source,
    )
    topic, value = deployment.topic(STAGES), stage_codec(deployment.ids).encode(record)
    async with kafka.producer(deployment.broker, client_id=_CLIENT) as producer:
        await producer.send_and_wait(topic, value, key=lead.lead_id.encode())
    return record
