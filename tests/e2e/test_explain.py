"""`explain` of every lead of a campaign: each webhook and each send that the fake Meta knows of is accounted for."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from leads.rules import Caps
from operations.configuration import load_pages, load_rules
from operations.deployment import Deployment
from operations.explain.run import explain
from operations.explain.timeline import Moment, Timeline
from runtime.clock import now
from runtime.cluster import cluster_of
from runtime.settings import Settings
from schemas.codec import BUILT_IN
from schemas.topics import WEBHOOKS
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


async def explained(live: Live, subject: str) -> Timeline:
    deployment = Deployment(live.settings, cluster_of(live.settings), BUILT_IN)
    pages, rules = load_pages(live.settings, os.environ, tokens=False), load_rules(live.settings, os.environ)
    return await explain(deployment, subject, pages, rules, Caps(), now(), Silent())


def raw_records_of(timeline: Timeline) -> set[str]:
    return {str(moment.place) for moment in timeline.moments if moment.kind in ("webhook", "fact")}


def names_its_items(timeline: Timeline, webhook: Moment) -> bool:
    """Whether something follows from the webhook in the same instant."""
    return any(moment.kind in _ITEMS and moment.at == webhook.at for moment in timeline.moments)


async def test_every_webhook_and_every_send_of_a_campaign_is_accounted_for(
    kafka_topics: Settings, tmp_path: Path
) -> None:
    async with live_on(kafka_topics, tmp_path) as live:
        await live.post(a_campaign(4, leads=_LEADS), per_second=50)
        observer = await live.settled(_LEADS)
        received = {
            f"{record.topic}/{record.partition}/{record.offset}" for record in await live.records(WEBHOOKS.name)
        }
        sends = {command for command, counts in (await live.sends()).items() if counts["effects"]}
        of_leads = [await explained(live, lead_id) for lead_id in observer.leads]
        shown = set().union(*(raw_records_of(timeline) for timeline in of_leads))
        # People who only wrote or read, Pages, and what nobody can read.
        others = {place: await explained(live, place) for place in sorted(received - shown)}

    assert len(received) > len(live.posted) / 2
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
