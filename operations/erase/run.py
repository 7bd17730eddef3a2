"""A person erased: searched for, erased step by step, and searched for again."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from operations.deployment import Deployment
from operations.erase.steps import Erasure, Person
from operations.erase.traces import Trace, in_files, in_server, in_topics, needles, replay_of
from operations.reporting import Progress
from runtime.topic_admin import ExistingTopic, delete_topics, existing_topics, partition_counts
from streams.replay.shadow import Shadow

_DISK_TIDIED_WITHIN = timedelta(days=2)
_SINKS = ("sink send", "sink warehouse")


@dataclass(frozen=True, slots=True)
class Remaining:
    """A trace, and when it is gone at the latest; None is never."""

    trace: Trace
    until: datetime | None


@dataclass(frozen=True, slots=True)
class Result:
    """An erasure that every running stage has passed. `absent` are the sinks that do not run, and pass it later."""

    at: datetime
    absent: Sequence[str]
    remaining: Sequence[Remaining]


async def search(deployment: Deployment, texts: Sequence[str], progress: Progress) -> list[Trace]:
    """Every trace of these texts. Raises `Unusable`, `KafkaError`."""
    wanted = needles(texts)
    with progress.count("records read") as on_read:
        traces = await in_topics(deployment, wanted, on_read)
    with progress.count("files read") as on_read:
        traces += await asyncio.to_thread(in_files, deployment.settings, wanted, on_read)
    return traces + await asyncio.to_thread(in_server, deployment.settings, wanted)


async def was_erased(deployment: Deployment, person: Person) -> bool:
    """Whether the register has the person from an earlier erasure."""
    return (await deployment.erasures_now()).until(person.page_id, person.psid) is not None


async def erase(
    deployment: Deployment, person: Person, traces: Sequence[Trace], patience: float, progress: Progress
) -> Result:
    """Erase everything of the person whose traces these are, and search again.

    Raises `OperationError` where a stage has not passed the erasure after `patience` seconds, and `KafkaError`. A
    second run does the steps that are left.
    """
    async with Erasure.on(deployment, patience) as erasure:
        progress.say("Entering the erasure")
        fact, since = await erasure.declare(person)
        progress.say("Waiting for the join")
        await erasure.until_the_join_has_passed(person, fact, since)
        progress.say("Waiting for the sinks")
        absent = await erasure.until_sinks_have_passed(await erasure.end_of_events(person), _SINKS)
        with progress.count("records read") as on_read:
            ends = await erasure.bury(person, fact.at, on_read)
        await _drop_replays(deployment, traces, progress)
        absent += await erasure.until_sinks_have_passed(ends, _SINKS[1:]) if ends else []
    return Result(fact.at, sorted(set(absent)), await _remaining(deployment, person, fact.at, progress))


async def _drop_replays(deployment: Deployment, traces: Sequence[Trace], progress: Progress) -> None:
    settings = deployment.settings
    places = [trace.place for trace in traces if trace.kind == "topic"]
    for name in sorted({name for place in places if (name := replay_of(settings, place)) is not None}):
        topics = [topic.name for topic in Shadow(settings, name).topics]
        await delete_topics(deployment.broker, list(await partition_counts(deployment.broker, topics)))
        progress.say(f"Dropped the replay {name}, which had the person: run it again if you need it")


async def _remaining(deployment: Deployment, person: Person, at: datetime, progress: Progress) -> list[Remaining]:
    traces = await search(deployment, [person.psid], progress)
    topics = await existing_topics(deployment.broker, [trace.place for trace in traces if trace.kind == "topic"])
    return [Remaining(trace, _gone_at(topics.get(trace.place), at)) for trace in traces]


def _gone_at(topic: ExistingTopic | None, at: datetime) -> datetime | None:
    """When a topic's records of an erased person are gone at the latest; a file's go as the disk is tidied."""
    if topic is None:
        return at + _DISK_TIDIED_WITHIN
    is_compact = "compact" in topic.config["cleanup.policy"]
    names = ("max.compaction.lag.ms", "delete.retention.ms") if is_compact else ("retention.ms", "segment.ms")
    millis = [int(topic.config[name]) for name in names]
    return None if millis[0] < 0 else at + timedelta(milliseconds=sum(millis))
