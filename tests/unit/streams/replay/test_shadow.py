"""What a replay and the present are compared on, and what is carried over."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from leads.records import Lead
from runtime.settings import Settings
from schemas.codec import lead_codec
from schemas.topics import LEADS
from streams.replay.shadow import Extent, Reading, Shadow, compare, read_leads
from tests.builders import MINUTE, NOON, PAGE, RESELLER, a_lead

pytestmark = pytest.mark.anyio

EXTENT = Extent(since=NOON, until=NOON + 10 * MINUTE)


@dataclass
class ARecord:
    value: bytes | None
    topic: str = "leads"
    partition: int = 0
    offset: int = 0
    timestamp: int = 0
    key: bytes | None = None
    headers: list[tuple[str, bytes]] = field(default_factory=list)


async def reading_of(*leads: Lead | ARecord | None, extent: Extent = EXTENT) -> Reading:
    """What is read of a topic with these records."""
    codec = lead_codec()

    async def runs() -> AsyncIterator[Sequence[Any]]:
        yield [ARecord(codec.encode(lead)) if isinstance(lead, Lead) else lead or ARecord(None) for lead in leads]

    return await read_leads(runs(), codec, extent)


async def test_the_highest_revision_inside_the_extent_is_compared() -> None:
    later = a_lead(revision=2, updated_at=NOON + MINUTE)

    reading = await reading_of(a_lead(), later, a_lead(), None)

    assert reading.newest == {later.lead_id: later}


@pytest.mark.parametrize("minutes", [-1, 10], ids=["before the start", "at the end"])
async def test_a_revision_outside_the_extent_is_not_compared(minutes: int) -> None:
    reading = await reading_of(a_lead(updated_at=NOON + minutes * MINUTE))

    assert reading.newest == {}


async def test_leads_of_another_page_are_not_compared() -> None:
    extent = Extent(since=EXTENT.since, until=EXTENT.until, page_id=PAGE)

    reading = await reading_of(a_lead(page_id="1"), extent=extent)

    assert reading.newest == {}


async def test_a_lead_whose_revisions_of_that_time_were_compacted_is_not_a_difference() -> None:
    live = await reading_of(a_lead(revision=5, updated_at=EXTENT.until + MINUTE))

    comparison = compare(live, await reading_of(a_lead()))

    assert (comparison.found, comparison.gone_on) == ([], 1)


async def test_a_lead_that_the_replay_knows_less_of_is_a_difference() -> None:
    comparison = compare(await reading_of(a_lead()), await reading_of(a_lead(answers=(RESELLER,))))

    assert len(comparison.found) == 1


def test_shadow_topics_are_like_the_live_ones_and_have_names_of_their_own() -> None:
    settings = Settings(topic_prefix="t-", partitions=3)

    topics = {topic.name: topic for topic in Shadow(settings, "fix-7").topics}

    assert topics["t-leads-replay-fix-7"].config == LEADS.settings
    assert topics["t-leads-replay-fix-7"].partitions == 3
    assert all(name.endswith("-replay-fix-7") for name in topics)
