"""Every stage replaced by its successor while webhooks come in: nothing lost, no lead twice, nobody texted twice."""

import asyncio
from pathlib import Path

import pytest

from runtime.settings import Settings
from tests.faults.audited import findings
from tests.faults.live import a_campaign, live_on

pytestmark = [pytest.mark.anyio, pytest.mark.faults]

# docs/operating.md, Rolling upgrade: the end of the data path first, and what writes facts after streams.
_IN_ORDER = ("sink warehouse", "sink send", "streams", "sink transcripts", "ingest")
_LEADS = 600


@pytest.mark.parametrize("kafka_topics", [4], indirect=True)
async def test_stages_are_replaced_one_by_one_under_load(kafka_topics: Settings, tmp_path: Path) -> None:
    campaign = a_campaign(21, leads=_LEADS)
    async with live_on(kafka_topics, tmp_path) as live:
        posting = asyncio.create_task(live.post(campaign, per_second=25))
        ended = []
        while not posting.done():
            ended += [await live.replace(stage) for stage in _IN_ORDER]
            await asyncio.sleep(1)
        await posting
        observer = await live.settled(len(campaign.leads))

        assert len(ended) >= len(_IN_ORDER)
        assert set(ended) == {0}
        assert len(observer.leads) == len(campaign.leads)
        assert await findings(live) == []
