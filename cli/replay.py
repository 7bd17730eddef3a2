"""`leadstream replay …`: the past joined again beside the present, compared with it, and carried over."""

import os
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import timedelta
from time import monotonic
from typing import Any, TypeVar

import click
import uvloop
from aiokafka import AIOKafkaConsumer, TopicPartition

from cli import replay_report
from cli.meta_id import META_ID
from cli.replay_options import DurationType, PlaceType, ReplayName
from cli.terminal import say
from leads.facts import LeadPromoted
from leads.person import STATE_TTL
from leads.rules import Policy
from messenger.events import PageId, Psid
from operations.broker import broker_of, kafka_answers
from operations.configuration import load_pages, load_rules
from operations.deployment import erasures_now, require_topics, schema_ids
from operations.environment import current_settings
from runtime import kafka
from runtime.clock import now
from runtime.cluster import Cluster
from runtime.settings import Settings
from runtime.topic_admin import TopicRefusedError, apply_topics, delete_topics, partition_counts
from runtime.topic_reading import TopicMissing, whole_topic
from schemas.codec import Ids, NotDecodable, lead_codec
from schemas.state import person_codec
from schemas.topics import JOIN_STATE, LEADS
from streams.replay.plan import NothingThere, Place, Plan, Wanted, make_plan
from streams.replay.promotion import Settled, follow, promotions, publish, read_states
from streams.replay.run import Rejoin, Tally, replay
from streams.replay.shadow import (
    Comparison,
    NotReplayed,
    Reading,
    Shadow,
    compare,
    extent_of,
    read_leads,
)

_Answer = TypeVar("_Answer")
# The join takes a fact up within a second or two; one that is far behind shows that it works by taking up others.
_PATIENCE = timedelta(seconds=60)


@dataclass(frozen=True, slots=True)
class _Cluster:
    """Clients of one command; what is opened closes with the stack."""

    settings: Settings
    broker: Cluster
    ids: Ids
    stack: AsyncExitStack

    async def consumer(self) -> AIOKafkaConsumer:
        # Of no group: a replay that dies is run anew, so that there are no offsets to keep.
        return await self.stack.enter_async_context(
            kafka.consumer(self.broker, group=None, client_id="leadstream-replay")
        )

    async def producer(self) -> Any:
        return await self.stack.enter_async_context(
            kafka.producer(self.broker, client_id="leadstream-replay", linger_ms=20)
        )


def _what(command: Callable[..., None]) -> Callable[..., None]:
    for option in (
        click.option("--psid", type=META_ID, help="Of this person only; - reads the id from stdin."),
        click.option("--page", type=META_ID, help="Of this Page only."),
        click.option(
            "--warm-up",
            type=DurationType(),
            default=STATE_TTL,
            show_default="30d, all that the join remembers",
            help="How much of what came before the start is read, so that leads that straddle it are whole.",
        ),
        click.option("--to", "until", type=PlaceType(), help="Up to, not including.  [default: the end as it is now]"),
        click.option("--from", "begin", type=PlaceType(), required=True, help="0, 3:1200 or 2026-03-02T12:00 (UTC)."),
    ):
        command = option(command)
    return command


def _wanted(begin: Place, until: Place | None, warm_up: timedelta, page: str | None, psid: str | None) -> Wanted:
    return Wanted(
        begin=begin,
        until=until,
        warm_up=warm_up,
        page_id=PageId(page) if page else None,
        psid=Psid(psid) if psid else None,
    )


@click.group()
def command() -> None:
    """Join the past again, into topics of its own: see what today's code makes of it, and carry it over.

    A replay calls no Graph API and sends nothing: commands and transcript requests go where no sink reads.

    \b
    Example:
      leadstream replay run --from 2026-03-01 --id fix-7
      leadstream replay diff fix-7
      leadstream replay promote fix-7
    """


@command.command("plan")
@_what
def plan(begin: Place, until: Place | None, warm_up: timedelta, page: str | None, psid: str | None) -> None:
    """Show what would be read, what is missing, and what would be held back. Changes nothing.

    \b
    Example:
      leadstream replay plan --from 0
    """

    async def work(cluster: _Cluster) -> Plan:
        wanted = _wanted(begin, until, warm_up, page, psid)
        return await make_plan(await cluster.consumer(), cluster.settings, wanted, now())

    replay_report.show_plan(_run(work))


@command.command("run")
@_what
@click.option("--id", "name", type=ReplayName(), required=True, help="What to call it; part of its topics' names.")
def run(begin: Place, until: Place | None, warm_up: timedelta, page: str | None, psid: str | None, name: str) -> None:
    """Replay, at full speed, into <topic>-replay-<id>.

    \b
    Example:
      leadstream replay run --from 0 --id everything
      leadstream replay run --from 3:1200 --to 2026-03-02T12:00 --page 542998526103632 --id one-page
    """
    wanted = _wanted(begin, until, warm_up, page, psid)
    began = monotonic()
    done_plan, tally = _run(lambda cluster: _replay(cluster, wanted, name))
    replay_report.show_tally(done_plan, tally, timedelta(seconds=monotonic() - began))


async def _replay(cluster: _Cluster, wanted: Wanted, name: str) -> tuple[Plan, Tally]:
    settings, shadow = cluster.settings, Shadow(cluster.settings, name)
    pages, rules = load_pages(settings, os.environ, tokens=False), tuple(load_rules(settings, os.environ))
    consumer = await cluster.consumer()
    made = await make_plan(consumer, settings, wanted, now())
    if await partition_counts(cluster.broker, [topic.name for topic in shadow.topics]):
        raise click.ClickException(f"there is a replay {name}: take another --id, or `leadstream replay drop {name}`")
    await apply_topics(cluster.broker, shadow.topics)
    producer = await cluster.producer()
    rejoin = Rejoin(
        lambda page_id: Policy(pages.get(page_id), rules),
        pages.aliases,
        page_id=wanted.page_id,
        psid=wanted.psid,
        erasures=await erasures_now(settings, cluster.broker),
    )
    with replay_report.progress(made.records) as on_read:
        tally = await replay(made, rejoin, consumer, producer, shadow.topic, on_read, cluster.ids)
    await shadow.finish(producer, extent_of(made))
    return made, tally


@command.command("diff")
@click.argument("name", type=ReplayName())
@click.option("--revisions", is_flag=True, help="Compare every revision, not only the newest of each lead.")
@click.option("--show-pii", is_flag=True, help="Show PSIDs and answers.")
@click.pass_context
def diff(context: click.Context, *, name: str, revisions: bool, show_pii: bool) -> None:
    """Show each lead of which the replay says something else than `leads` did at the replay's end.

    Ends with status 0 when there is none, with 1 when there is.

    \b
    Example:
      leadstream replay diff fix-7
    """
    comparison, live, replayed = _run(lambda cluster: _compare(cluster, name))
    replay_report.show_differences(comparison, show_pii=show_pii)
    differs = bool(comparison.found)
    if revisions:
        differs |= not replay_report.show_fingerprints(live, replayed)
    if differs:
        context.exit(1)


@command.command("promote")
@click.argument("name", type=ReplayName())
@click.option("--yes", is_flag=True, help="Do not ask.")
def promote(*, name: str, yes: bool) -> None:
    """Hand the leads that differ to the live join, which publishes each as its next revision. Nobody is texted.

    Leads that only the present has stay, and so do those that have changed since the replay's end. Ends with status 1
    where a lead changed meanwhile, or `leadstream streams` does not take it up.

    \b
    Example:
      leadstream replay promote fix-7 --yes
    """
    facts, live = _run(lambda cluster: _promotions(cluster, name))
    if not facts:
        return
    if not yes:
        click.confirm("Publish them?", abort=True)
    settled = _run(lambda cluster: _promote(cluster, facts, live))
    replay_report.show_settled(settled)
    if settled.overtaken:
        raise click.ClickException(
            f"{len(settled.overtaken)} leads changed meanwhile and stay as they are: replay again, under another --id"
        )
    if left := len(facts) - len(settled.carried):
        raise click.ClickException(
            f"{left} leads wait in messenger-events for `leadstream streams`, which does not take them up: does it run?"
        )


async def _promotions(cluster: _Cluster, name: str) -> tuple[list[LeadPromoted], Reading]:
    settings, shadow = cluster.settings, Shadow(cluster.settings, name)
    comparison, live, _ = await _compare(cluster, name)
    consumer, state = await cluster.consumer(), shadow.topic(JOIN_STATE)
    wanted = {one.lead.lead_id: one for one in comparison.found}
    states = await read_states(whole_topic(consumer, state, settings.partitions), person_codec(), wanted)
    facts = promotions(comparison, live, states, name, now())
    replay_report.show_promotion(comparison, facts)
    return facts, live


async def _promote(cluster: _Cluster, facts: Sequence[LeadPromoted], live: Reading) -> Settled:
    settings = cluster.settings
    await publish(facts, await cluster.producer(), settings, cluster.ids)
    partitions = [TopicPartition(settings.topic(LEADS.name), number) for number in range(settings.partitions)]
    begin = {one: live.ends.get(one, 0) for one in partitions}
    with replay_report.progress(len(facts), "leads carried over") as on_settled:
        return await follow(
            facts, await cluster.consumer(), begin, lead_codec(cluster.ids), on_settled, patience=_PATIENCE
        )


@command.command("drop")
@click.argument("name", type=ReplayName())
def drop(name: str) -> None:
    """Delete the topics of a replay.

    \b
    Example:
      leadstream replay drop fix-7
    """

    async def work(cluster: _Cluster) -> int:
        wanted = [topic.name for topic in Shadow(cluster.settings, name).topics]
        found = await partition_counts(cluster.broker, wanted)
        await delete_topics(cluster.broker, list(found))
        return len(found)

    count = _run(work)
    if not count:
        raise click.ClickException(f"there is no replay {name}")
    say(f"{count} topics deleted")


async def _compare(cluster: _Cluster, name: str) -> tuple[Comparison, Reading, Reading]:
    shadow, codec = Shadow(cluster.settings, name), lead_codec(cluster.ids)
    if not await partition_counts(cluster.broker, [shadow.record]):
        raise NotReplayed(f"there is no replay {name}: see `leadstream replay run --help`")
    consumer = await cluster.consumer()
    extent, partitions = await shadow.extent(consumer), cluster.settings.partitions
    live_topic, erasures = cluster.settings.topic(LEADS.name), await erasures_now(cluster.settings, cluster.broker)
    live = await read_leads(whole_topic(consumer, live_topic, partitions), codec, extent, erasures)
    replayed = await read_leads(whole_topic(consumer, shadow.topic(LEADS), partitions), codec, extent, erasures)
    return compare(live, replayed, extent), live, replayed


def _run(work: Callable[[_Cluster], Coroutine[Any, Any, _Answer]]) -> _Answer:
    settings = current_settings()
    broker, ids = broker_of(settings), schema_ids(settings)

    async def with_clients() -> _Answer:
        await require_topics(settings, broker)
        async with AsyncExitStack() as stack:
            return await work(_Cluster(settings, broker, ids, stack))

    try:
        with kafka_answers():
            return uvloop.run(with_clients())
    except (NothingThere, NotReplayed, TopicRefusedError, NotDecodable, TopicMissing) as fault:
        raise click.ClickException(str(fault)) from None
