"""`explain` of every lead of a campaign: each webhook and each send that the fake Meta knows of is accounted for."""

import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from leads.rules import Caps
from operations.configuration import load_pages, load_rules
from operations.dead_letters.letters import Discard, Letter, Wanted
from operations.dead_letters.redrive import close, find_letters
from operations.deployment import Deployment
from operations.explain.run import explain
from operations.explain.timeline import Moment, Timeline
from runtime.clock import now
from runtime.cluster import cluster_of
from runtime.settings import Settings
from schemas.codec import BUILT_IN
from schemas.topics import WEBHOOKS
from simulator.poster import GraphControl
from simulator.reactions import Reactions
from tests.faults.live import Live, a_campaign, live_on, told_sent

pytestmark = [pytest.mark.anyio, pytest.mark.integration, pytest.mark.slow]

_LEADS = 15
# What an item of a webhook becomes.
_ITEMS = {"event", "reply", "echo", "delivery", "read", "ignored", "dead_letter"}


class Silent:
    """Shows no progress."""

    def say(self, text: str) -> None:
        pass

    @contextmanager
    def count(self, label: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
        yield lambda increase: None


def deployment_of(live: Live) -> Deployment:
    return Deployment(live.settings, cluster_of(live.settings), BUILT_IN)


async def explained(live: Live, subject: str) -> Timeline:
    pages, rules = load_pages(live.settings, os.environ, tokens=False), load_rules(live.settings, os.environ)
    return await explain(deployment_of(live), subject, pages, rules, Caps(), now(), Silent())


def raw_records_of(timeline: Timeline) -> set[str]:
    return {str(moment.place) for moment in timeline.moments if moment.kind in ("webhook", "fact")}


def names_its_items(timeline: Timeline, webhook: Moment) -> bool:
    """Whether something follows from the webhook in the same instant."""
    return any(moment.kind in _ITEMS and moment.at == webhook.at for moment in timeline.moments)


async def places_received(live: Live) -> set[str]:
    return {f"{record.topic}/{record.partition}/{record.offset}" for record in await live.records(WEBHOOKS.name)}


async def people_react(live: Live) -> dict[str, int]:
    """Messages arrive, most people read theirs, and some answer; gives how many, once the ledger has it."""
    async with httpx.AsyncClient() as http:
        counts = await GraphControl(http, live.settings.graph_url).let_people_react(Reactions(read=0.7, reply=0.35))
    unread = counts["delivered"] - counts["read"]
    while (await live.settled(_LEADS)).receipts != (unread, counts["read"]):
        pass
    return counts


async def discard_all(live: Live) -> list[Letter]:
    letters = (await find_letters(deployment_of(live), Wanted())).of("open")
    await close(deployment_of(live), letters, Discard(now().isoformat(), "Ada", "nobody's body"), Silent())
    return letters


async def test_every_webhook_and_every_send_of_a_campaign_is_accounted_for(
    kafka_topics: Settings, tmp_path: Path
) -> None:
    async with live_on(kafka_topics, tmp_path) as live:
        await live.post(a_campaign(4, leads=_LEADS), per_second=50)
        await live.settled(_LEADS)
        before, reacted_at = await places_received(live), now()
        reactions = await people_react(live)
        observer, received = await live.settled(_LEADS), await places_received(live)
        letters = await discard_all(live)
        sends = {command for command, counts in (await live.sends()).items() if counts["effects"]}
        of_leads = [await explained(live, lead_id) for lead_id in observer.leads]
        shown = set().union(*(raw_records_of(timeline) for timeline in of_leads))
        # People who only wrote or read, Pages, and what nobody can read.
        others = {place: await explained(live, place) for place in sorted(received - shown)}
        of_letters = {letter.id: await explained(live, letter.id) for letter in letters}

    assert len(before) > len(live.posted) / 2
    assert shown <= received
    assert {place for place, timeline in others.items() if place not in raw_records_of(timeline)} == set()
    for timeline in (*of_leads, *others.values()):
        webhooks = [moment for moment in timeline.moments if moment.kind == "webhook"]
        assert [moment for moment in webhooks if not names_its_items(timeline, moment)] == []
    assert {lead_id for timeline in others.values() for lead_id in timeline.lead_ids} == set()

    moments = [moment for timeline in of_leads for moment in timeline.moments]
    told = {moment.command_id for moment in moments if moment.kind == "outcome" and ": sent as" in moment.text}
    seen = {moment.command_id for moment in moments if moment.kind == "echo" and moment.command_id is not None}
    assert sends == told == told_sent(observer)
    assert sends <= seen
    ended = {moment.command_id for moment in moments if moment.kind in ("outcome", "cancelled")}
    assert {moment.command_id for moment in moments if moment.kind in ("command", "planned")} <= ended
    rows = [moment.text for timeline in of_leads for moment in timeline.moments if moment.kind == "row"]
    assert all(text.startswith("the warehouse has ") for text in rows)

    # Each receipt and reply is a webhook of its own, and all are of people with leads.
    assert len(received - before) == sum(reactions.values())
    assert received - before <= shown
    of_reactions = {(moment.kind, str(moment.place)) for moment in moments if moment.at and moment.at >= reacted_at}
    kinds = Counter(kind for kind, _ in of_reactions)
    assert {kind: kinds[kind] for kind in ("delivery", "read", "reply")} == {
        "delivery": reactions["delivered"],
        "read": reactions["read"],
        "reply": reactions["replied"],
    }
    assert min(reactions.values()) > 0
    arrived = {moment.command_id for moment in moments if ": delivered" in moment.text or ": read" in moment.text}
    assert arrived == sends

    assert letters
    for letter_id, timeline in of_letters.items():
        [told_of] = [moment.text for moment in timeline.moments if str(moment.place) == letter_id]
        assert "is discarded by Ada at " in told_of
        assert told_of.endswith(": nobody's body")
