"""Kafka, its topics, and the records in them that wait for an operator, checked."""

import asyncio
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import replace
from datetime import datetime, timedelta

from aiokafka.errors import KafkaError

from operations.access import lacking_access
from operations.dead_letters.letters import SETTLED, Letter, Wanted
from operations.dead_letters.redrive import find_letters
from operations.deployment import Deployment, expected_topics
from operations.doctor.verdicts import Verdict, any_broken, broken, ok, warning
from operations.erase.requests import ANSWER_WITHIN, Register, read_register
from runtime.clock import now
from runtime.kafka import suspects_of_group
from runtime.kafka_probe import find_fault
from runtime.settings import Settings
from runtime.suspect import RAISED
from runtime.topic_admin import FLUSH, Difference, apply_topics, compare_topics, partitions_advice
from runtime.topic_reading import TopicMissing
from schemas.registry_client import RegistryFault, find_ids
from schemas.topics import TOPICS, WEBHOOKS

# A node that stands still takes connections and answers nothing, for which Kafka's clients wait 40 seconds.
_SECONDS = 15
_PROMISE = ("retention.ms", "retention.bytes", "cleanup.policy")
_GROUPS = tuple(f"leadstream{name}" for name in ("", "-send", "-warehouse", "-transcripts", "-conversions", "-deliver"))
_LATE = timedelta(days=14)
_MOST_NAMED = 5


async def examine_kafka(deployment: Deployment | None) -> list[Verdict]:
    """Whether Kafka lets us in, allows these checks, and has the topics as they should be."""
    if deployment is None:
        mend = "`leadstream kafka start`, or set LEADSTREAM_BROKER"
        return [broken("kafka", "kafka", "none is set, and none runs here", mend=mend)]
    settings, broker = deployment.settings, deployment.broker
    try:
        async with asyncio.timeout(_SECONDS):
            fault = await find_fault(broker)
            if fault is not None:
                return [broken("kafka", "kafka", fault.text)]
            lacking = await lacking_access(deployment, "doctor")
            if lacking is not None:
                return [broken("access", "kafka", lacking)]
            differences = await compare_topics(broker, expected_topics(settings))
    except (KafkaError, TimeoutError) as fault:
        return [broken("kafka", "kafka", f"{broker} does not answer ({type(fault).__name__})")]
    verdicts = [ok("kafka", "kafka", f"{broker} answers"), *topic_verdicts(settings, differences)]
    return [*verdicts, *await _erasures(deployment)]


async def mend_topics(deployment: Deployment) -> list[str]:
    """Create and repair the topics; a line for each change."""
    differences = await apply_topics(deployment.broker, expected_topics(deployment.settings))
    return [f"topic {difference}: mended" for difference in differences]


async def _erasures(deployment: Deployment) -> list[Verdict]:
    try:
        async with asyncio.timeout(_SECONDS):
            return erasure_verdicts(deployment.settings, len(await deployment.erasures_now()))
    except (TopicMissing, KafkaError, TimeoutError):
        return []  # a missing topic or a silent Kafka has a verdict of its own


def erasure_verdicts(settings: Settings, erased: int) -> list[Verdict]:
    """A warning where webhooks of erased people are kept for ever."""
    if not erased or settings.retention is not None:
        return []
    return [warning("open erasures", "kafka", f"{erased} erased, and no retention is set")]


def topic_verdicts(settings: Settings, differences: Collection[Difference]) -> Iterator[Verdict]:
    """The differences of the topics, apart from those that concern replays and power cuts, which have verdicts."""
    webhooks = settings.topic(WEBHOOKS.name)
    promise = [difference for difference in differences if difference.topic == webhooks and difference.what in _PROMISE]
    unflushed = [difference for difference in differences if difference.what == FLUSH]
    others = [difference for difference in differences if difference not in [*promise, *unflushed]]
    mend = partitions_advice(others, len(TOPICS)) or ""
    if not mend and any(difference.what == "replication" for difference in others):
        mend = "add copies with Kafka's kafka-reassign-partitions.sh, or set LEADSTREAM_REPLICATION to what they have"
    yield _difference_verdict("topics", others, "as they should be", mend)
    if not any(difference.topic == webhooks and difference.seen is None for difference in others):
        kept = "as LEADSTREAM_RETENTION says" if settings.retention else "for ever"
        yield _difference_verdict("replay promise", promise, f"webhooks are kept {kept}")
    safe = "on disk" if settings.replication < 3 else "on two brokers"
    yield _difference_verdict("power cut", unflushed, f"acknowledged records are {safe}")


def _difference_verdict(check: str, differences: Collection[Difference], fine: str, mend: str = "") -> Verdict:
    if not differences:
        return ok(check, "kafka", fine)
    return broken(check, "kafka", "; ".join(map(str, differences)), mend=mend)


async def examine_requests(deployment: Deployment | None, earlier: Collection[Verdict]) -> list[Verdict]:
    """Verdicts on Meta's data-deletion requests; none where an earlier verdict shows their prerequisites broken."""
    if deployment is None or any_broken(earlier, "kafka", "topics", "registry", "schemas"):
        return []
    try:
        with_ids = replace(deployment, known_ids=await find_ids(deployment.settings))
        register = await read_register(with_ids)
    except (KafkaError, RegistryFault):
        return []
    return list(request_verdicts(register, deployment.settings.public_url, now()))


def request_verdicts(register: Register, public_url: str | None, moment: datetime) -> Iterator[Verdict]:
    """Whether requests are resolved in time, can be read, and got the address of a status page."""
    waiting = {request.code: moment - request.requested_at for request in register.open}
    late = {code: since for code, since in waiting.items() if since > _LATE}
    if late:
        named = ", ".join(f"{code} ({since.days} days)" for code, since in list(late.items())[:_MOST_NAMED])
        seen = f"{len(waiting)} open, {len(late)} for longer than {_LATE.days} days: {named}"
        yield (broken if max(late.values()) > ANSWER_WITHIN else warning)("deletion requests", "kafka", seen)
    else:
        yield ok("deletion requests", "kafka", f"{len(waiting)} open")
    if register.unreadable:
        yield warning("deletion records", "kafka", f"cannot be read: {', '.join(register.unreadable[:_MOST_NAMED])}")
    if register.requests and public_url is None:
        yield broken("public url", "setting", "not set, and requests have come")


async def examine_set_aside(deployment: Deployment | None, earlier: Collection[Verdict]) -> list[Verdict]:
    """Verdicts on records that ended a stage; none where an earlier verdict shows Kafka or its topics broken."""
    if deployment is None or any_broken(earlier, "kafka", "topics"):
        return []
    settings, broker = deployment.settings, deployment.broker
    try:
        suspects = [
            f"{settings.topic(group)} {partition.topic}/{partition.partition} {suspect}"
            for group in _GROUPS
            for partition, suspect in (await suspects_of_group(broker, settings.topic(group))).items()
        ]
        selection = await find_letters(deployment, Wanted(reason=RAISED))
    except KafkaError:
        return []  # a silent Kafka has a verdict of its own
    unsettled = [letter for letter, standing in selection.letters if standing not in SETTLED]
    return list(_set_aside_verdicts(suspects, unsettled))


def _set_aside_verdicts(suspects: Collection[str], letters: Collection[Letter]) -> Iterator[Verdict]:
    """Suspects that still end a stage, and letters that need action."""
    if suspects:
        yield broken("suspects", "kafka", "; ".join(suspects))
    if letters:
        kinds = Counter(f"{letter.origin_topic} {letter.stage}: {letter.fault} {letter.reason}" for letter in letters)
        named = "; ".join(f"{kind} ({count})" for kind, count in kinds.most_common(_MOST_NAMED))
        yield broken("set aside", "kafka", named)
    elif not suspects:
        yield ok("set aside", "kafka", "nothing")
