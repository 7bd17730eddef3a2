"""A small campaign through the live stages, and replays of it through the command line."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from messenger.events import Psid
from messenger.limits import LEADGEN_APP_ID, PAGE_INBOX_APP_ID
from operations.deployment import expected_topics
from runtime import kafka
from runtime.clock import now, to_millis
from runtime.cluster import cluster_of
from runtime.settings import Settings
from runtime.topic_admin import apply_topics
from schemas.topics import WEBHOOKS
from simulator import payloads
from simulator.campaign import Campaign, plan_campaign
from simulator.people import PAGES
from tests.e2e.recording import Recording
from tests.e2e.replaying import a_changed_rule_touches_only_its_leads, replayed_the_same

pytestmark = [pytest.mark.anyio, pytest.mark.integration]

_LEADS = 110  # some 300 webhooks


@pytest.fixture
async def recording(kafka_topics: Settings, tmp_path: Path) -> AsyncIterator[Recording]:
    async with AsyncExitStack() as stack:
        yield await Recording.on(kafka_topics, tmp_path, stack)


def a_campaign() -> Campaign:
    return plan_campaign(5, leads=_LEADS, start=now() - timedelta(hours=2))


async def test_a_replay_says_what_was_said_live_and_a_changed_rule_what_it_changes(recording: Recording) -> None:
    campaign = a_campaign()
    for stage in (("streams",), ("sink", "transcripts"), ("sink", "warehouse")):
        recording.start(*stage)
    await recording.write(campaign.deliveries, per_second=100)
    await recording.until_live_is_done(campaign)
    assert any(fact.answers for fact in await recording.transcripts())

    assert await replayed_the_same(recording, "one") == await replayed_the_same(recording, "two")
    await a_changed_rule_touches_only_its_leads(recording)


_DAY = timedelta(days=1)


async def test_a_replay_of_some_days_gives_the_leads_of_people_who_have_written_for_months(
    kafka_topics: Settings, tmp_path: Path
) -> None:
    """Their acts before the warm-up: they had the thread handed over, lost it, began a flow, finished one."""
    # The stamps are ours, because the broker's would all be of today.
    wanted = [
        replace(topic, config={**topic.config, "message.timestamp.type": "CreateTime"})
        for topic in expected_topics(kafka_topics)
    ]
    await apply_topics(cluster_of(kafka_topics), wanted)
    today = now().replace(microsecond=0)
    async with AsyncExitStack() as stack:
        recording = await Recording.on(kafka_topics, tmp_path, stack)
        await _write_as_of_then(kafka_topics, [webhook for number in range(4) for webhook in _months_of(number, today)])
        recording.start("streams")
        await recording.until_closed(6)

        await recording.run("replay", "run", "--from", f"{today - 10 * _DAY:%Y-%m-%dT%H:%M}", "--id", "days")
        printed = await recording.run("replay", "diff", "days", "--revisions")

    assert "0 of 4 leads differ" in printed


def _months_of(number: int, today: datetime) -> list[tuple[datetime, payloads.Json]]:
    """The webhooks of one person, each with the time at which it came."""
    page, begin = PAGES[0], today - 50 * _DAY
    who = payloads.Conversation(page.page_id, Psid(f"700{number}"), page.entry_id)
    lead_at = today - 5 * _DAY
    old = (
        payloads.lead_handover(who, "complete", new_owner=page.target_app, at=begin, sent_at=begin),
        payloads.control_taken(
            who, previous_owner=page.target_app, new_owner=PAGE_INBOX_APP_ID, at=begin, sent_at=begin
        ),
        payloads.control_taken(who, previous_owner=page.target_app, new_owner=LEADGEN_APP_ID, at=begin, sent_at=begin),
        _referral(who, begin),
    )
    messages = [
        (at, payloads.message(who, "Hello?", mid=f"m_{number}_{day}", at=at, sent_at=at))
        for day in range(1, 50)
        for at in [begin + day * _DAY - timedelta(hours=1)]
    ]
    return [(begin, old[number]), *messages, (lead_at, _referral(who, lead_at))]


def _referral(who: payloads.Conversation, at: datetime) -> payloads.Json:
    ad = PAGES[0].ads[0]
    return payloads.lead_referral(who, "complete", ad=ad, photo_url="", answers=(), at=at, sent_at=at)


async def _write_as_of_then(settings: Settings, webhooks: list[tuple[datetime, payloads.Json]]) -> None:
    async with kafka.producer(cluster_of(settings), client_id="test") as producer:
        for at, entry in sorted(webhooks, key=lambda webhook: webhook[0]):
            await producer.send(
                settings.topic(WEBHOOKS.name),
                payloads.body([entry]),
                key=PAGES[0].page_id.encode(),
                timestamp_ms=to_millis(at),
            )
        await producer.flush()
