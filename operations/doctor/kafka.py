"""Kafka and its topics, fetched and judged."""

import asyncio
from collections.abc import Collection

from aiokafka.errors import KafkaError

from operations.access import lacking_access
from operations.deployment import erasures_now, wanted_topics
from operations.doctor.verdicts import Verdict
from runtime.cluster import Cluster
from runtime.kafka_probe import find_fault
from runtime.settings import Settings
from runtime.topic_admin import FLUSH, Difference, apply_topics, compare_topics, partitions_advice
from runtime.topic_reading import TopicMissing
from schemas.topics import TOPICS, WEBHOOKS

# A node that stands still takes connections and answers nothing, for which Kafka's clients wait 40 seconds.
_SECONDS = 15
_PROMISE = ("retention.ms", "retention.bytes", "cleanup.policy")
NO_KAFKA = "webhooks wait in the spool or are refused, and nothing else works"
_MEND_TOPICS = "`leadstream doctor --fix`, or `leadstream topics apply`"
_MEND_KAFKA = "`leadstream kafka status`, or look at LEADSTREAM_BROKER and LEADSTREAM_KAFKA_…"


async def examine_kafka(settings: Settings, broker: Cluster | None) -> list[Verdict]:
    """Whether it lets us in, lets us look, and has the topics as they should be."""
    if broker is None:
        mend = "`leadstream kafka start`, or set LEADSTREAM_BROKER"
        return [Verdict("kafka", "kafka", "broken", "none is set, and none runs here", NO_KAFKA, mend)]
    try:
        async with asyncio.timeout(_SECONDS):
            fault = await find_fault(broker)
            if fault is not None:
                return [Verdict("kafka", "kafka", "broken", fault.text, NO_KAFKA, _MEND_KAFKA)]
            lacking = await lacking_access(settings, broker, "doctor")
            if lacking is not None:
                mend = "`leadstream topics acls --stage doctor` prints the commands"
                return [Verdict("access", "kafka", "broken", lacking, "nobody sees whether topics are right", mend)]
            differences = await compare_topics(broker, wanted_topics(settings))
    except (KafkaError, TimeoutError) as fault:
        seen = f"{broker} does not answer ({type(fault).__name__})"
        return [Verdict("kafka", "kafka", "broken", seen, NO_KAFKA, _MEND_KAFKA)]
    found = [Verdict("kafka", "kafka", "ok", f"{broker} answers"), *topic_verdicts(settings, differences)]
    return [*found, *await _erasures(settings, broker)]


async def mend_topics(broker: Cluster, settings: Settings) -> list[str]:
    """Create and repair them; what was done."""
    return [f"topic {difference}: mended" for difference in await apply_topics(broker, wanted_topics(settings))]


async def _erasures(settings: Settings, broker: Cluster) -> list[Verdict]:
    try:
        async with asyncio.timeout(_SECONDS):
            return erasure_verdicts(settings, len(await erasures_now(settings, broker)))
    except (TopicMissing, KafkaError, TimeoutError):
        return []  # what is missing or silent has a verdict of its own


def erasure_verdicts(settings: Settings, erased: int) -> list[Verdict]:
    """What stands in the way of erasures: nothing, or that webhooks are kept for ever."""
    if not erased or settings.retention is not None:
        return []
    breaks = "what these people wrote stays in webhooks and dead letters for ever"
    mend = "set LEADSTREAM_RETENTION, then `leadstream topics apply`"
    return [Verdict("open erasures", "kafka", "warning", f"{erased} erased, and no retention is set", breaks, mend)]


def topic_verdicts(settings: Settings, differences: Collection[Difference]) -> list[Verdict]:
    """What differs, and apart from it whether every webhook is kept for a replay, and what a power cut takes."""
    webhooks = settings.topic(WEBHOOKS.name)
    promise = [one for one in differences if one.topic == webhooks and one.what in _PROMISE]
    unflushed = [one for one in differences if one.what == FLUSH]
    others = [one for one in differences if one not in promise and one not in unflushed]
    mend = _MEND_TOPICS
    advice = partitions_advice(others, len(TOPICS))
    if advice is not None:
        mend = advice
    elif any(one.what == "replication" for one in others):
        mend = "add copies with Kafka's kafka-reassign-partitions.sh, or set LEADSTREAM_REPLICATION to what they have"
    breaks = "the stages write and read what is not there or not as it should be"
    found = [_of_differences("topics", others, "as they should be", breaks, mend)]
    if not any(one.topic == webhooks and one.seen is None for one in others):
        breaks = "Kafka forgets webhooks, and no replay brings them back"
        ok = "webhooks are kept " + ("as LEADSTREAM_RETENTION says" if settings.retention else "for ever")
        found.append(_of_differences("replay promise", promise, ok, breaks, _MEND_TOPICS))
    breaks = "a power cut takes records that Kafka acknowledged: leads are lost, and people are texted twice"
    ok = f"acknowledged records are {'on disk' if settings.replication < 3 else 'on two brokers'}"
    found.append(_of_differences("power cut", unflushed, ok, breaks, _MEND_TOPICS))
    return found


def _of_differences(check: str, differences: Collection[Difference], ok: str, breaks: str, mend: str) -> Verdict:
    if not differences:
        return Verdict(check, "kafka", "ok", ok)
    return Verdict(check, "kafka", "broken", "; ".join(map(str, differences)), breaks, mend)
