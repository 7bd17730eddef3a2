"""One person's many long leads through real ingest and streams: shed within the bounds, and nobody else notices."""

import asyncio
import random
from collections import Counter
from datetime import timedelta
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from messenger.events import Psid
from messenger.limits import ITEM_MAX, SUMMARY_PREFIX
from runtime.clock import now
from runtime.settings import Settings
from schemas.topics import JOIN_STATE, LARGE
from simulator.payloads import Conversation, body, summary
from simulator.people import PAGES
from tests.faults.audited import findings
from tests.faults.lab import eventually
from tests.faults.live import a_campaign, live_on

pytestmark = [pytest.mark.anyio, pytest.mark.faults]

_PSID = Psid("7100000000000777")
_LONG, _SHORT, _IN_ONE_BODY = 60, 300, 50
# The rest of a messaging item around its text.
_AROUND = 600
_OTHERS = 40


def _summary(number: int, size: int) -> dict[str, object]:
    page = PAGES[0]
    # Hexadecimal digits, because a text that compresses well is small for Kafka.
    text = f"{SUMMARY_PREFIX}\nWhat is your name?: {random.Random(number).randbytes(size // 2).hex()}"
    at = now() - timedelta(hours=1)
    who = Conversation(page.page_id, _PSID, page.entry_id)
    return summary(who, text, mid=f"m_bounds_{number}", hop_app_id=page.hop_app_id, at=at, sent_at=at)


def _bodies() -> list[bytes]:
    long = [body([_summary(number, ITEM_MAX - _AROUND)]) for number in range(_LONG)]
    first, end = _LONG, _LONG + _SHORT
    short = [
        body([_summary(number, 40) for number in range(start, start + _IN_ONE_BODY)])
        for start in range(first, end, _IN_ONE_BODY)
    ]
    return long + short


async def test_the_leads_of_one_person_never_outgrow_a_record_and_stop_nobody(
    kafka_topics: Settings, tmp_path: Path
) -> None:
    campaign, bodies = a_campaign(31, leads=_OTHERS), _bodies()
    async with live_on(kafka_topics, tmp_path, ["ingest", "streams", "sink warehouse"]) as live:

        async def have_leads() -> bool:
            people = Counter({lead.lead_id: lead.psid for lead in await live.leads()}.values())
            return people.pop(_PSID, 0) == _LONG + _SHORT and people.total() == len(campaign.leads)

        await asyncio.gather(live.post_bodies(bodies), live.post(campaign, per_second=10))
        await eventually(have_leads)
        families = {family.name: family for family in text_string_to_metric_families(await live.metrics("streams"))}
        status = await live.stop("streams")
        states = [len(value) for value in await live.values(JOIN_STATE.name) if value]
        found = await findings(live)

    [shed] = [
        sample.value for sample in families["leadstream_join_state_shed"].samples if sample.name.endswith("_total")
    ]
    assert min(map(len, bodies[:_LONG])) > ITEM_MAX - _AROUND
    assert status == 0
    assert found == []
    assert max(states) < int(LARGE["max.message.bytes"]) // 2
    assert shed >= _LONG // 2
