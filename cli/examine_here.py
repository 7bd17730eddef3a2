"""The prerequisites on our side, fetched and judged: Kafka and its topics, the schema registry, the warehouse."""

import asyncio
import os
from collections.abc import Collection, Mapping
from pathlib import Path

import httpx
from aiokafka.errors import KafkaConnectionError, KafkaError

from cli.broker import known_broker
from cli.erasures import erasures_now
from cli.examine_registry import examine_registry
from cli.examine_requests import examine_requests
from cli.examine_set_aside import examine_set_aside
from cli.examine_stages import examine_stages
from cli.mending import Mending
from cli.topics import wanted_topics
from messenger.prerequisites import Verdict
from runtime.cluster import Cluster
from runtime.settings import SettingError, Settings
from runtime.topic_admin import Difference, apply_topics, compare_topics, partitions_advice
from runtime.topic_follower import NotFollowed
from schemas.ids import registry_ids
from schemas.registry_client import registry_client
from schemas.topics import TOPICS, WEBHOOKS
from sinks.consume import Unusable
from sinks.delta_tables import local_path
from sinks.postgres_connection import is_server
from sinks.postgres_readiness import readiness_of
from sinks.tables import tables_by_topic

_CONNECT_SECONDS = 5
# A node that stands still takes connections and answers nothing, for which Kafka's clients wait 40 seconds.
_KAFKA_SECONDS = 15
_PROMISE = ("retention.ms", "retention.bytes", "cleanup.policy")
_NO_KAFKA = "webhooks wait in the spool or are refused, and nothing else works"
_MEND_TOPICS = "`leadstream doctor --fix`, or `leadstream topics apply`"
_NO_WAREHOUSE = "leads wait in Kafka, and analysts see old ones"


async def verdicts_here(
    settings: Settings,
    stages: Mapping[str, str],
    http: httpx.AsyncClient,
    registry_transport: httpx.AsyncBaseTransport | None = None,
) -> list[Verdict]:
    """Every verdict that can be given of what this deployment stands on; `stages` are URLs of admin ports by name."""
    try:
        broker = known_broker(settings)
        kafka = await _kafka(settings, broker)
    except SettingError as fault:
        broker, kafka = None, [Verdict("kafka", "kafka", "broken", str(fault), _NO_KAFKA, "see docs/configuration.md")]
    registry = await examine_registry(settings, registry_transport)
    running = await examine_stages(settings, stages, http)
    requests = await examine_requests(settings, broker, [*kafka, registry])
    aside = await examine_set_aside(settings, broker, kafka)
    return [*kafka, registry, await asyncio.to_thread(_warehouse, settings), *running, *requests, *aside]


async def mend_here(settings: Settings, verdicts: Collection[Verdict]) -> Mending:
    """Create and repair topics, and register schemas, where these verdicts found them wanting."""
    broken = {verdict.check for verdict in verdicts if verdict.standing == "broken"}
    mending = Mending()
    if broken & {"topics", "replay promise"} and (broker := known_broker(settings)) is not None:
        await mending.attempt("the topics", _mend_topics(broker, settings))
    if "schemas" in broken and settings.schema_registry_url:
        await mending.attempt("the schemas", _register(settings))
    return mending


async def _mend_topics(broker: Cluster, settings: Settings) -> list[str]:
    return [f"topic {difference}: mended" for difference in await apply_topics(broker, wanted_topics(settings))]


async def _register(settings: Settings) -> list[str]:
    async with registry_client(settings) as registry:
        await registry_ids(registry, settings.topic_prefix)
    return ["registered our schemas"]


async def _kafka(settings: Settings, broker: Cluster | None) -> list[Verdict]:
    if broker is None:
        mend = "`leadstream kafka start`, or set LEADSTREAM_BROKER"
        return [Verdict("kafka", "kafka", "broken", "none is set, and none runs here", _NO_KAFKA, mend)]
    try:
        async with asyncio.timeout(_KAFKA_SECONDS):
            differences = await compare_topics(broker, wanted_topics(settings))
    except (KafkaError, TimeoutError, ValueError) as fault:
        is_silent = isinstance(fault, KafkaConnectionError | TimeoutError)
        seen = f"{broker} does not answer" if is_silent else f"{broker} refuses: {type(fault).__name__}"
        mend = "`leadstream kafka status`, or look at LEADSTREAM_BROKER"
        return [Verdict("kafka", "kafka", "broken", seen, _NO_KAFKA, mend)]
    found = [Verdict("kafka", "kafka", "ok", f"{broker} answers"), *topic_verdicts(settings, differences)]
    return [*found, *await _erasures(settings, broker)]


async def _erasures(settings: Settings, broker: Cluster) -> list[Verdict]:
    try:
        async with asyncio.timeout(_KAFKA_SECONDS):
            return erasure_verdicts(settings, len(await erasures_now(settings, broker)))
    except (NotFollowed, KafkaError, TimeoutError):
        return []  # what is missing or silent has a verdict of its own


def erasure_verdicts(settings: Settings, erased: int) -> list[Verdict]:
    """What stands in the way of erasures: nothing, or that webhooks are kept for ever."""
    if not erased or settings.retention is not None:
        return []
    breaks = "what these people wrote stays in webhooks and dead letters for ever"
    mend = "set LEADSTREAM_RETENTION, then `leadstream topics apply`"
    return [Verdict("open erasures", "kafka", "warning", f"{erased} erased, and no retention is set", breaks, mend)]


def topic_verdicts(settings: Settings, differences: Collection[Difference]) -> list[Verdict]:
    """What differs, and apart from it whether every webhook is kept for a replay."""
    webhooks = settings.topic(WEBHOOKS.name)
    promise = [one for one in differences if one.topic == webhooks and one.what in _PROMISE]
    others = [one for one in differences if one not in promise]
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
    return found


def _of_differences(check: str, differences: Collection[Difference], ok: str, breaks: str, mend: str) -> Verdict:
    if not differences:
        return Verdict(check, "kafka", "ok", ok)
    return Verdict(check, "kafka", "broken", "; ".join(map(str, differences)), breaks, mend)


def _warehouse(settings: Settings) -> Verdict:
    """Whether the sink could write there now."""
    url = settings.warehouse
    path = local_path(url)
    if is_server(url):
        return _server(settings)
    if path is None:
        return Verdict("warehouse", "warehouse", "warning", "object storage, which is not looked at from here")
    fault = _path_fault(path)
    if fault is None:
        return Verdict("warehouse", "warehouse", "ok", "can be reached")
    return Verdict("warehouse", "warehouse", "broken", fault, _NO_WAREHOUSE, "look at LEADSTREAM_WAREHOUSE")


def _server(settings: Settings) -> Verdict:
    try:
        found = readiness_of(settings.warehouse, tables_by_topic(settings.topic))
    except Unusable as fault:
        seen, _, mend = str(fault).partition("; ")
        mend = mend or "look at LEADSTREAM_WAREHOUSE and its server"
        return Verdict("warehouse", "warehouse", "broken", seen, _NO_WAREHOUSE, mend)
    if found.lacks is not None:
        mend = "docs/warehouse.md lists what the role needs"
        return Verdict("warehouse", "warehouse", "broken", f"the sink needs {found.lacks}", _NO_WAREHOUSE, mend)
    if found.readable_at is not None:
        seen, breaks = f"no TLS on the way to {found.readable_at}", "others on the way can read passwords and leads"
        mend = "add sslmode=verify-full and sslrootcert to LEADSTREAM_WAREHOUSE, see docs/warehouse.md"
        return Verdict("warehouse", "warehouse", "warning", f"can be written to; {seen}", breaks, mend)
    return Verdict("warehouse", "warehouse", "ok", f"can be written to, UTF8; {found.tables}")


def _path_fault(path: Path) -> str | None:
    try:
        there = next(one for one in (path, *path.absolute().parents) if one.exists())
    except OSError as fault:
        return f"{path}: {fault.strerror}"
    if not there.is_dir():
        return f"{there} is not a directory"
    return None if os.access(there, os.W_OK | os.X_OK) else f"{there} cannot be written to"
