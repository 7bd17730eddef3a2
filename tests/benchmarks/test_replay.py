"""How fast the past is joined again: a recorded campaign through `leadstream replay run`."""

import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path

import pytest

from runtime.clock import now
from runtime.settings import Settings
from simulator.campaign import plan_campaign
from tests.benchmarks.conftest import Note
from tests.e2e.recording import Recording

pytestmark = [pytest.mark.anyio, pytest.mark.benchmark]

_LEADS = 7600
_REAL_TIME = timedelta(minutes=30)  # the campaign's span


@pytest.fixture
async def recording(kafka_topics: Settings, tmp_path: Path) -> AsyncIterator[Recording]:
    async with AsyncExitStack() as stack:
        yield await Recording.on(kafka_topics, tmp_path, stack)


@pytest.mark.parametrize("kafka_topics", [8], indirect=True)
async def test_replay_at_full_speed(recording: Recording, note: Note) -> None:
    campaign = plan_campaign(11, leads=_LEADS, start=now() - timedelta(hours=2), span=_REAL_TIME)
    await recording.write(campaign.deliveries)

    printed = await recording.run("replay", "run", "--from", "0", "--id", "speed")

    found = re.search(r"^([\d.]+) seconds: (\d+) webhooks a second", printed, re.MULTILINE)
    assert found is not None, printed
    seconds, per_second = float(found[1]), int(found[2])
    real = campaign.deliveries[-1].at
    note(
        f"Replay of {len(campaign.deliveries)} webhooks, {len(campaign.leads)} leads, start of the command included",
        f"{per_second} webhooks a second, {real.total_seconds() / seconds:.0f} times real time",
    )
