"""A large campaign whose workers are killed and stopped on the way is replayed to the same leads."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path

import pytest

from runtime.clock import now
from runtime.settings import Settings
from simulator.campaign import plan_campaign
from tests.e2e.recording import Recording
from tests.e2e.replaying import a_changed_rule_touches_only_its_leads, replayed_the_same

pytestmark = [pytest.mark.anyio, pytest.mark.integration, pytest.mark.faults]

_LEADS = 7600
_WEBHOOKS = 20_000
_PER_SECOND = 250
_JOIN_WAIT = timedelta(seconds=8)
_STOPPED_FOR = 20.0


@pytest.fixture
async def recording(kafka_topics: Settings, tmp_path: Path) -> AsyncIterator[Recording]:
    async with AsyncExitStack() as stack:
        yield await Recording.on(kafka_topics, tmp_path, stack, join_wait=_JOIN_WAIT)


@pytest.mark.parametrize("kafka_topics", [8], indirect=True)
async def test_a_campaign_with_a_killed_and_a_stopped_worker_is_replayed_to_the_same_leads(
    recording: Recording,
) -> None:
    campaign = plan_campaign(11, leads=_LEADS, start=now() - timedelta(hours=2))
    assert len(campaign.deliveries) >= _WEBHOOKS
    quarter = len(campaign.deliveries) // 4
    parts = [campaign.deliveries[first : first + quarter] for first in range(0, len(campaign.deliveries), quarter)]
    killed, stopped = recording.start("streams"), recording.start("streams")
    for sink in ("transcripts", "warehouse"):
        recording.start("sink", sink)

    await recording.write(parts[0], per_second=_PER_SECOND)
    killed.kill()
    recording.start("streams")
    await recording.write(parts[1], per_second=_PER_SECOND)
    stopped.send_signal(signal.SIGSTOP)
    async with asyncio.TaskGroup() as group:
        group.create_task(
            recording.write([delivery for part in parts[2:] for delivery in part], per_second=_PER_SECOND)
        )
        await asyncio.sleep(_STOPPED_FOR)
        stopped.send_signal(signal.SIGCONT)
    await recording.until_live_is_done(campaign)

    assert await replayed_the_same(recording, "one") == await replayed_the_same(recording, "two")
    await a_changed_rule_touches_only_its_leads(recording)
