"""Rows as the sink gives them to a warehouse, and the partitions that they come from."""

from typing import Any

from aiokafka import TopicPartition

from runtime.dead_letter import dead_letter as as_dead_letter
from schemas.codec import event_codec, lead_codec, outcome_codec
from sinks.warehouse.rows import dead_letter_row, message_or_forgotten
from tests.builders import a_lead, a_message
from tests.unit.sinks.outcomes import an_outcome
from tests.unit.sinks.records import a_record

CLUSTER = "cluster-one"


def lead_row(partition: int, offset: int, name: str = "l1", revision: int = 1, **given: Any) -> dict[str, Any]:
    lead = a_lead(lead_id=name, revision=revision, **given)
    return {**lead_codec().decode_plain(lead_codec().encode(lead)), **_where("leads", partition, offset)}


def outcome_row(partition: int, offset: int, name: str, status: str, **given: Any) -> dict[str, Any]:
    outcome = outcome_codec().encode(an_outcome(name, status, **given))
    return {**outcome_codec().decode_plain(outcome), **_where("followup-outcomes", partition, offset)}


def message_row(offset: int, **given: Any) -> dict[str, Any]:
    """That a person wrote, as the sink keeps it of a platform event."""
    value = event_codec().encode(a_message(**given))
    row = message_or_forgotten(event_codec(), a_record("messenger-events", 0, offset, b"k", value))
    assert isinstance(row, dict)
    return {**row, **_where("messenger-events", 0, offset)}


def dead_letter(offset: int, value: bytes, *, reason: str = "not_json") -> dict[str, Any]:
    """What the splitter refused, as the sink keeps it."""
    refused = a_record("messenger-webhooks", 3, 4711, b"page:psid", value, ())
    key, value_kept, headers = as_dead_letter(refused, stage="split", reason=reason, fault="Unreadable")
    row = dead_letter_row(a_record("messenger-webhooks-dlq", 0, offset, key, value_kept, tuple(headers)))
    return {**row, **_where("messenger-webhooks-dlq", 0, offset)}


def _where(topic: str, partition: int, offset: int) -> dict[str, Any]:
    return {"_topic": topic, "_partition": partition, "_offset": offset}


def leads(partition: int) -> TopicPartition:
    return TopicPartition("leads", partition)


def messages(partition: int) -> TopicPartition:
    return TopicPartition("messenger-events", partition)


def refused(partition: int) -> TopicPartition:
    return TopicPartition("messenger-webhooks-dlq", partition)


def outcomes(partition: int) -> TopicPartition:
    return TopicPartition("followup-outcomes", partition)
