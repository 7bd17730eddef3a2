"""The receipts of ingest against the raw topic."""

from ingest.audit import Audit
from operations.deployment import Deployment
from operations.reporting import OperationError, Progress
from runtime import kafka
from runtime.topic_reading import read_until
from schemas.topics import WEBHOOKS


async def show_topic_to(audit: Audit, deployment: Deployment, progress: Progress) -> None:
    """Show every record that the raw topic has now to the audit. Raises `OperationError`, `KafkaError`."""
    topic = deployment.topic(WEBHOOKS)
    async with kafka.consumer(deployment.broker, topic, group=None, client_id="leadstream-verify") as consumer:
        partitions = consumer.assignment()
        if not partitions:
            raise OperationError(f"topic {topic} is missing: run `leadstream topics apply`")
        beginnings, ends = await consumer.beginning_offsets(partitions), await consumer.end_offsets(partitions)
        with progress.count("records", sum(ends.values()) - sum(beginnings.values())) as on_read:
            async for records in read_until(consumer, ends):
                for record in records:
                    audit.compare(f"{topic}/{record.partition}/{record.offset}", record.headers, record.value)
                on_read(len(records))
