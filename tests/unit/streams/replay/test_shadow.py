"""What a replay and the present are compared on, and what is carried over."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import pytest

from leads.records import Lead
from messenger.events import Answer
from runtime.settings import Settings
from schemas.codec import lead_codec
from schemas.topics import LEADS
from streams.replay.shadow import Extent, Reading, Shadow, compare, read_leads
from tests.builders import CITY, MINUTE, NOON, PAGE, RESELLER, a_lead

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

    comparison = compare(live, await reading_of(a_lead()), EXTENT)

    assert (comparison.found, comparison.gone_on) == ([], 1)


@pytest.mark.parametrize(
    ("source", "left"),
    [("transcript", ()), ("summary", (RESELLER,)), ("referral", (RESELLER,))],
    ids=["the transcript alone", "a summary came after it", "a referral came after it"],
)
async def test_a_transcript_past_retention_is_not_a_difference(source: Any, left: tuple[Answer, ...]) -> None:
    extent = replace(EXTENT, facts_from=NOON + MINUTE)
    live = await reading_of(a_lead(answers_source=source, updated_at=NOON + 2 * MINUTE), extent=extent)
    poorer = a_lead(answers=left, answers_source=source if left else "none", updated_at=NOON + 2 * MINUTE)
    replayed = await reading_of(poorer, extent=extent)

    past, kept = compare(live, replayed, extent), compare(live, replayed, EXTENT)

    assert (past.found, past.past_retention) == ([], 1)
    assert len(kept.found) == 1


@pytest.mark.parametrize(
    ("answers", "first_seen_at"),
    [((CITY,), NOON), ((RESELLER, CITY, RESELLER), NOON), ((RESELLER,), NOON + MINUTE)],
    ids=["other answers first", "more answers", "of a time whose transcripts are there"],
)
async def test_a_lead_that_lacks_more_or_less_than_a_transcript_is_a_difference(
    answers: tuple[Answer, ...], first_seen_at: datetime
) -> None:
    extent = replace(EXTENT, facts_from=NOON + MINUTE)
    live = await reading_of(a_lead(first_seen_at=first_seen_at), extent=extent)
    replayed = await reading_of(a_lead(first_seen_at=first_seen_at, answers=answers), extent=extent)

    assert len(compare(live, replayed, extent).found) == 1


@pytest.mark.parametrize(("transcript_at", "found"), [(NOON, 0), (None, 1)], ids=["recovered", "by a webhook"])
async def test_a_recovered_lead_past_retention_is_not_a_difference(transcript_at: datetime | None, found: int) -> None:
    extent = replace(EXTENT, facts_from=NOON + MINUTE)

    comparison = compare(await reading_of(a_lead(transcript_at=transcript_at)), await reading_of(), extent)

    assert len(comparison.found) == found


def test_shadow_topics_are_like_the_live_ones_and_have_names_of_their_own() -> None:
    settings = Settings(topic_prefix="t-", partitions=3)

    topics = {topic.name: topic for topic in Shadow(settings, "fix-7").topics}

    assert topics["t-leads-replay-fix-7"].config == LEADS.settings
    assert topics["t-leads-replay-fix-7"].partitions == 3
    assert all(name.endswith("-replay-fix-7") for name in topics)
