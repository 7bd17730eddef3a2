"""A small campaign through the live stages, and replays of it through the command line."""

import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path

import pytest

from runtime.clock import now
from runtime.settings import Settings
from simulator.campaign import Campaign, plan_campaign
from tests.e2e.recording import Recording

pytestmark = [pytest.mark.anyio, pytest.mark.integration]

_LEADS = 110  # some 300 webhooks


@pytest.fixture
async def recording(kafka_topics: Settings, tmp_path: Path) -> AsyncIterator[Recording]:
    async with AsyncExitStack() as stack:
        yield await Recording.on(kafka_topics, tmp_path, random.Random(1), stack)


def a_campaign() -> Campaign:
    return plan_campaign(5, leads=_LEADS, start=now() - timedelta(hours=2))


async def test_replay_of_a_campaign_says_what_was_said_live(recording: Recording) -> None:
    campaign = a_campaign()
    recording.start("streams")
    recording.start("sink", "transcripts")
    await recording.write(campaign.deliveries, per_second=100)
    await recording.until_live_is_done(campaign)
    calls = recording.graph.calls

    print(await recording.run("replay", "plan", "--from", "0"))
    print(await recording.run("replay", "run", "--from", "0", "--id", "one"))
    printed = await recording.run("replay", "diff", "one", "--revisions")
    print(printed)
    live, replayed = (line.split()[-1] for line in printed.splitlines()[-2:])
    assert live == replayed
    assert f"0 of {_LEADS} leads differ" in printed
    assert calls > 0
    assert recording.graph.calls == calls
