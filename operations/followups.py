"""One lead and the outcomes of the commands to its person, as the topics have them now."""

from collections.abc import Mapping

from leads.records import OPTED_IN, OPTED_OUT, FollowUpOutcome, Lead
from operations.deployment import Deployment
from operations.reporting import OperationError, Progress
from runtime.topic_reading import records_now
from schemas.codec import NotDecodable, outcome_codec
from schemas.topics import OUTCOMES


async def lead_and_outcomes(
    deployment: Deployment, lead_id: str, progress: Progress
) -> tuple[Lead, Mapping[str, FollowUpOutcome]]:
    """The newest revision of a lead, and the newest outcome of each command to its person, by command id.

    Raises `OperationError`, also for an unknown lead, and `KafkaError`.
    """
    codec, outcomes = outcome_codec(deployment.ids), dict[str, FollowUpOutcome]()
    with progress.count("records read") as on_read:
        lead = await deployment.lead_now(lead_id, on_read)
        topic = deployment.topic(OUTCOMES)
        async for record in records_now(deployment.broker, [topic], client_id="leadstream-followups"):
            on_read(1)
            if record.value is None:
                outcomes.pop((record.key or b"").decode(errors="replace"), None)
                continue
            try:
                outcome = codec.decode(record.value)
            except NotDecodable as fault:
                raise OperationError(f"an outcome cannot be read: {fault}") from None
            if (outcome.page_id, outcome.psid) == (lead.page_id, lead.psid):
                outcomes[outcome.command_id] = outcome
    return lead, outcomes


def has_opted_out(outcomes: Mapping[str, FollowUpOutcome]) -> bool:
    """Whether the person of these outcomes opted out, as far as the send sink has heard of it."""
    told = [outcome for outcome in outcomes.values() if outcome.reason in (OPTED_OUT, OPTED_IN)]
    newest = max(told, key=lambda outcome: outcome.occurred_at, default=None)
    return newest is not None and newest.reason == OPTED_OUT
