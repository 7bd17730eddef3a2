"""A small campaign through the live stages, and replays of it through the command line."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path

import pytest

from runtime.clock import now
from runtime.settings import Settings
from simulator.campaign import Campaign, plan_campaign
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
