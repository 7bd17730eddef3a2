"""Kafka and its topics, checked."""

import asyncio
from collections.abc import Collection

from aiokafka.errors import KafkaError

from operations.access import lacking_access
from operations.deployment import Deployment, expected_topics
from operations.doctor.verdicts import Verdict
from operations.reporting import OperationError
from runtime.kafka_probe import find_fault
from runtime.settings import Settings
from runtime.topic_admin import FLUSH, Difference, apply_topics, compare_topics, partitions_advice
from schemas.topics import TOPICS, WEBHOOKS

# A node that stands still takes connections and answers nothing, for which Kafka's clients wait 40 seconds.
_SECONDS = 15
_PROMISE = ("retention.ms", "retention.bytes", "cleanup.policy")
NO_KAFKA = "webhooks wait in the spool or are refused, and nothing else works"
_MEND_TOPICS = "`leadstream doctor --fix`, or `leadstream topics apply`"
_MEND_KAFKA = "`leadstream kafka status`, or look at LEADSTREAM_BROKER and LEADSTREAM_KAFKA_…"


async def examine_kafka(deployment: Deployment | None) -> list[Verdict]:
    """Whether Kafka lets us in, allows these checks, and has the topics as they should be."""
    if deployment is None:
        mend = "`leadstream kafka start`, or set LEADSTREAM_BROKER"
        return [Verdict("kafka", "kafka", "broken", "none is set, and none runs here", NO_KAFKA, mend)]
    settings, broker = deployment.settings, deployment.broker
    try:
        async with asyncio.timeout(_SECONDS):
            fault = await find_fault(broker)
            if fault is not None:
                return [Verdict("kafka", "kafka", "broken", fault.text, NO_KAFKA, _MEND_KAFKA)]
            lacking = await lacking_access(deployment, "doctor")
            if lacking is not None:
                mend = "`leadstream topics acls --stage doctor` prints the commands"
                return [Verdict("access", "kafka", "broken", lacking, "the topics cannot be checked", mend)]
            differences = await compare_topics(broker, expected_topics(settings))
    except (KafkaError, TimeoutError) as fault:
        seen = f"{broker} does not answer ({type(fault).__name__})"
        return [Verdict("kafka", "kafka", "broken", seen, NO_KAFKA, _MEND_KAFKA)]
    verdicts = [Verdict("kafka", "kafka", "ok", f"{broker} answers"), *topic_verdicts(settings, differences)]
    return [*verdicts, *await _erasures(deployment)]


async def mend_topics(deployment: Deployment) -> list[str]:
    """Create and repair the topics; a line for each change."""
    differences = await apply_topics(deployment.broker, expected_topics(deployment.settings))
    return [f"topic {difference}: mended" for difference in differences]


async def _erasures(deployment: Deployment) -> list[Verdict]:
    try:
        async with asyncio.timeout(_SECONDS):
            return erasure_verdicts(deployment.settings, len(await deployment.erasures_now()))
    except (OperationError, KafkaError, TimeoutError):
        return []  # a missing topic or a silent Kafka has a verdict of its own


def erasure_verdicts(settings: Settings, erased: int) -> list[Verdict]:
    """A warning where webhooks of erased people are kept for ever."""
    if not erased or settings.retention is not None:
        return []
    breaks = "the messages of these people stay in webhooks and dead letters for ever"
    mend = "set LEADSTREAM_RETENTION, then `leadstream topics apply`"
    return [Verdict("open erasures", "kafka", "warning", f"{erased} erased, and no retention is set", breaks, mend)]


def topic_verdicts(settings: Settings, differences: Collection[Difference]) -> list[Verdict]:
    """The differences of the topics, apart from those that concern replays and power cuts, which have verdicts."""
    webhooks = settings.topic(WEBHOOKS.name)
    promise = [difference for difference in differences if difference.topic == webhooks and difference.what in _PROMISE]
    unflushed = [difference for difference in differences if difference.what == FLUSH]
    others = [difference for difference in differences if difference not in [*promise, *unflushed]]
    mend = _MEND_TOPICS
    advice = partitions_advice(others, len(TOPICS))
    if advice is not None:
        mend = advice
    elif any(difference.what == "replication" for difference in others):
        mend = "add copies with Kafka's kafka-reassign-partitions.sh, or set LEADSTREAM_REPLICATION to what they have"
    breaks = "the stages read and write topics that are missing or set wrongly"
    verdicts = [_verdict("topics", others, "as they should be", breaks, mend)]
    if not any(difference.topic == webhooks and difference.seen is None for difference in others):
        breaks = "Kafka deletes webhooks, and no replay brings them back"
        ok = "webhooks are kept " + ("as LEADSTREAM_RETENTION says" if settings.retention else "for ever")
        verdicts.append(_verdict("replay promise", promise, ok, breaks, _MEND_TOPICS))
    breaks = "a power cut loses records that Kafka acknowledged: leads are lost, and people are texted twice"
    ok = f"acknowledged records are {'on disk' if settings.replication < 3 else 'on two brokers'}"
    verdicts.append(_verdict("power cut", unflushed, ok, breaks, _MEND_TOPICS))
    return verdicts


def _verdict(check: str, differences: Collection[Difference], ok: str, breaks: str, mend: str) -> Verdict:
    if not differences:
        return Verdict(check, "kafka", "ok", ok)
    return Verdict(check, "kafka", "broken", "; ".join(map(str, differences)), breaks, mend)
