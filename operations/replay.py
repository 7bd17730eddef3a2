"""The past joined again, beside the present or in its place, with the clients that this needs."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import uvloop
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.structs import OffsetAndMetadata

from leads.facts import LeadPromoted
from leads.rules import Policy
from operations.configuration import load_pages, load_rules
from operations.deployment import Deployment
from operations.reporting import OperationError, Progress
from runtime import kafka
from runtime.clock import now
from runtime.consumer_groups import is_running
from runtime.topic_admin import apply_topics, delete_topics, partition_counts, topic_names
from runtime.topic_reading import whole_topic
from schemas.codec import NotDecodable, lead_codec
from schemas.topics import EVENTS, JOIN_STATE, LEADS, WEBHOOKS, Topic
from streams.replay.plan import Place, Plan, Wanted, make_plan
from streams.replay.promotion import Settled, follow, promotions, publish, read_states
from streams.replay.run import Rejoin, Tally, replay
from streams.replay.shadow import (
    Comparison,
    Extent,
    NotReplayed,
    Reached,
    Reading,
    Shadow,
    compare,
    extent_of,
    read_leads,
)
from streams.state import UnreadableState

_Result = TypeVar("_Result")
# The join takes a fact up within a second or two; a join far behind shows that it works by taking up others.
_PATIENCE = timedelta(seconds=60)
_TOMBSTONES_AT_ONCE = 1000
_NOTED_EVERY = 1.0


@dataclass(frozen=True, slots=True)
class Session:
    """A deployment with clients that close with the stack."""

    deployment: Deployment
    stack: AsyncExitStack

    @property
    def partitions(self) -> int:
        return self.deployment.settings.partitions

    def shadow(self, name: str) -> Shadow:
        """The topics of the replay with this name."""
        return Shadow(self.deployment.settings, name)

    async def consumer(self) -> AIOKafkaConsumer:
        # Without a group: a replay that dies is run anew, so there are no offsets to keep.
        consumer = kafka.consumer(self.deployment.broker, group=None, client_id="leadstream-replay")
        return await self.stack.enter_async_context(consumer)

    async def producer(self) -> Any:
        producer = kafka.producer(self.deployment.broker, client_id="leadstream-replay", linger_ms=20)
        return await self.stack.enter_async_context(producer)


def run_session(deployment: Deployment, work: Callable[[Session], Coroutine[Any, Any, _Result]]) -> _Result:
    """Do some work with a session. Raises `Mendable`, `KafkaError`."""

    async def work_in_session() -> _Result:
        await deployment.require_topics()
        async with AsyncExitStack() as stack:
            return await work(Session(deployment, stack))

    try:
        return uvloop.run(work_in_session())
    except NotDecodable as fault:
        raise OperationError(str(fault)) from None


async def plan_replay(session: Session, wanted: Wanted) -> Plan:
    """The plan of a replay, which changes nothing."""
    settings = session.deployment.settings
    aliases = load_pages(settings, os.environ, tokens=False).aliases
    return await make_plan(await session.consumer(), settings, wanted, now(), aliases)


async def run_replay(session: Session, wanted: Wanted, name: str, progress: Progress) -> tuple[Plan, Tally]:
    """Replay at full speed into the shadow topics of this name, which must not exist yet."""
    deployment, shadow = session.deployment, session.shadow(name)
    settings = deployment.settings
    pages, rules = load_pages(settings, os.environ, tokens=False), tuple(load_rules(settings, os.environ))
    consumer = await session.consumer()
    plan = await make_plan(consumer, settings, wanted, now(), pages.aliases)
    if await partition_counts(deployment.broker, [topic.name for topic in shadow.topics]):
        raise OperationError(f"a replay {name} exists: take another --id, or `leadstream replay drop {name}`")
    await apply_topics(deployment.broker, shadow.topics)
    producer = await session.producer()
    rejoin = Rejoin(
        lambda page_id: Policy(pages.get(page_id), rules),
        pages.aliases,
        partitions=settings.partitions,
        page_id=wanted.page_id,
        psid=wanted.psid,
        erasures=await deployment.erasures_now(),
        ids=deployment.ids,
    )
    with progress.count("records read", plan.records) as on_read:
        async with _noting(shadow, producer, plan.records, on_read) as note_read:
            tally = await replay(plan, rejoin, consumer, producer, shadow.topic, note_read, deployment.ids)
    await shadow.finish(producer, extent_of(plan))
    return plan, tally


@asynccontextmanager
async def _noting(
    shadow: Shadow, producer: AIOKafkaProducer, total: int, on_read: Callable[[int], None]
) -> AsyncIterator[Callable[[int], None]]:
    """While the context lasts, what has been read is counted and noted for those who look at the replay."""
    read = 0

    def count(increase: int) -> None:
        nonlocal read
        read += increase
        on_read(increase)

    async def note() -> None:
        while True:
            await shadow.note(producer, Reached(read, total))
            await asyncio.sleep(_NOTED_EVERY)

    noting = asyncio.create_task(note())
    try:
        yield count
    finally:
        noting.cancel()
        with suppress(asyncio.CancelledError):
            await noting


@dataclass(frozen=True, slots=True)
class ReplayState:
    """A replay that was not dropped. `extent` is None until it has come to its end; `events` and `revisions` are what
    it has written so far. `reached` is None where another release ran it, or it has only begun."""

    name: str
    extent: Extent | None
    reached: Reached | None
    events: int
    revisions: int


async def list_replays(deployment: Deployment) -> list[ReplayState]:
    """Every replay of this deployment, by name. Raises `KafkaError`."""
    settings = deployment.settings
    prefix = Shadow(settings, "").record
    names = sorted(
        name.removeprefix(prefix) for name in await topic_names(deployment.broker) if name.startswith(prefix)
    )
    if not names:
        return []
    async with kafka.consumer(deployment.broker, group=None, client_id="leadstream-replays") as consumer:
        return [await _state_of(Shadow(settings, name), settings.partitions, consumer) for name in names]


async def _state_of(shadow: Shadow, partitions: int, consumer: AIOKafkaConsumer) -> ReplayState:
    async def written(topic: Topic) -> int:
        ends = await consumer.end_offsets([TopicPartition(shadow.topic(topic), number) for number in range(partitions)])
        return sum(ends.values())

    reached, extent = await shadow.standing(consumer)
    return ReplayState(shadow.name, extent, reached, await written(EVENTS), await written(LEADS))


async def compare_replay(session: Session, name: str) -> tuple[Comparison, Reading, Reading]:
    """The comparison of a replay with the leads as they were at its end, with both readings: live and replayed."""
    deployment, shadow, codec = session.deployment, session.shadow(name), lead_codec(session.deployment.ids)
    if not await partition_counts(deployment.broker, [shadow.record]):
        raise NotReplayed(f"there is no replay {name}: see `leadstream replay run --help`")
    consumer = await session.consumer()
    extent, erasures = await shadow.extent(consumer), await deployment.erasures_now()
    live_topic, shadow_topic = deployment.topic(LEADS), shadow.topic(LEADS)
    live = await read_leads(whole_topic(consumer, live_topic, session.partitions), codec, extent, erasures)
    replayed = await read_leads(whole_topic(consumer, shadow_topic, session.partitions), codec, extent, erasures)
    return compare(live, replayed), live, replayed


async def find_promotions(session: Session, name: str) -> tuple[Comparison, list[LeadPromoted], Reading]:
    """The comparison, a fact for each lead that a promotion of the replay would change, and the live leads."""
    comparison, live, _ = await compare_replay(session, name)
    consumer, topic = await session.consumer(), session.shadow(name).topic(JOIN_STATE)
    differing = {difference.lead.lead_id: difference for difference in comparison.found}
    try:
        states = await read_states(whole_topic(consumer, topic, session.partitions), differing)
    except UnreadableState:
        raise OperationError(f"another release ran the replay {name}: run it again, under another --id") from None
    return comparison, promotions(comparison, live, states, name, now()), live


async def promote(session: Session, facts: Sequence[LeadPromoted], live: Reading, progress: Progress) -> Settled:
    """Publish the facts and wait until the live join has taken them up."""
    deployment = session.deployment
    await publish(facts, await session.producer(), deployment.settings, deployment.ids)
    partitions = [TopicPartition(deployment.topic(LEADS), number) for number in range(session.partitions)]
    begin = {partition: live.ends.get(partition, 0) for partition in partitions}
    consumer, codec = await session.consumer(), lead_codec(deployment.ids)
    with progress.count("leads carried over", len(facts)) as on_settled:
        return await follow(facts, consumer, begin, codec, on_settled, patience=_PATIENCE)


async def rebuild_state(session: Session, begin: Place | None) -> int:
    """Empty the join's state and put streams back in the log of webhooks; how many people and Pages the join knew.

    The workers that start next split and join from `begin` again, None is the beginning of the log. Raises
    `OperationError` while one runs, because it would write its state again, and `NothingThere`.
    """
    deployment = session.deployment
    group = deployment.settings.topic("leadstream")
    if await is_running(deployment.broker, group):
        raise OperationError("streams is running: stop all of its workers first")
    consumer, producer = await session.consumer(), await session.producer()
    webhooks, events = (
        [TopicPartition(deployment.topic(topic), number) for number in range(session.partitions)]
        for topic in (WEBHOOKS, EVENTS)
    )
    if begin is None:
        starts = await consumer.beginning_offsets(webhooks)
    else:
        plan = await make_plan(
            consumer, deployment.settings, Wanted(begin=begin, until=None, warm_up=timedelta(0)), now()
        )
        starts = {partition: span.start for partition, span in plan.spans.items()}
    # The events of the log come again behind those that are there.
    places = starts | await consumer.end_offsets(events)
    # Before the state goes: should this run die in between, no worker goes on from the present without the past.
    async with kafka.consumer(deployment.broker, group=group, client_id="leadstream-replay") as streams:
        streams.assign(list(places))
        await streams.commit({partition: OffsetAndMetadata(offset, "") for partition, offset in places.items()})
    changelog, is_held = deployment.topic(JOIN_STATE), dict[tuple[int, bytes], bool]()
    async for records in whole_topic(consumer, changelog, session.partitions):
        is_held.update({(record.partition, record.key): record.value is not None for record in records})
    known = [key for key, held in is_held.items() if held]
    for first in range(0, len(known), _TOMBSTONES_AT_ONCE):
        some = known[first : first + _TOMBSTONES_AT_ONCE]
        await asyncio.gather(*[await producer.send(changelog, key=key, partition=number) for number, key in some])
    return len(known)


async def drop_replay(deployment: Deployment, name: str) -> int:
    """Delete the topics of a replay; how many there were."""
    topics = [topic.name for topic in Shadow(deployment.settings, name).topics]
    existing = list(await partition_counts(deployment.broker, topics))
    await delete_topics(deployment.broker, existing)
    return len(existing)
