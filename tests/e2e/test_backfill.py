"""500 leads, 7 % without any webhook: the gap detector names exactly those, a backfill restores them, and no more."""

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from leads.records import Lead
from runtime.clock import now
from runtime.settings import Settings
from simulator.campaign import Campaign, plan_campaign
from simulator.people import LEAD_FORMS
from simulator.story import ExpectedLead, Mix
from tests.e2e.recording import Recording, newest_of

pytestmark = [pytest.mark.anyio, pytest.mark.integration]

_LEADS = 500
_MIX = Mix(withheld=0.07, chats=0.1, other_app=0.0)

# One lead: whose it is, how it ended, and what was answered.
Known = tuple[str, str, str, tuple[tuple[str, str], ...]]


@pytest.fixture
async def recording(kafka_topics: Settings, tmp_path: Path) -> AsyncIterator[Recording]:
    async with AsyncExitStack() as stack:
        made = await Recording.on(kafka_topics, tmp_path, stack)
        made.graph.world.config = replace(made.graph.world.config, lead_forms=LEAD_FORMS)
        yield made


def expected(lead: ExpectedLead) -> Known:
    return lead.page_id, lead.psid, lead.outcome, tuple((pair.question, pair.answer) for pair in lead.transcript)


def had(lead: Lead) -> Known:
    return lead.page_id, lead.psid, lead.outcome, tuple((pair.question, pair.answer) for pair in lead.answers)


def told(finding: dict[str, Any]) -> Known:
    answers = tuple((pair["question"], pair["answer"]) for pair in finding["answers"])
    return finding["page_id"], finding["psid"], finding["outcome"], answers


async def backfill(recording: Recording, campaign: Campaign, *options: str, status: int = 0) -> dict[str, list[Any]]:
    """What a run prints, by standing; the days are under `day`."""
    since = f"{campaign.start - timedelta(hours=2):%Y-%m-%dT%H:%M:%S}"
    printed = await recording.run(
        "backfill", "--from", since, "--json", "--show-pii", *options, status=status, with_errors=False
    )
    found: dict[str, list[Any]] = {"missing": [], "unanswered": [], "cannot_tell": [], "day": []}
    for line in map(json.loads, printed.splitlines()):
        found[line.get("standing", "day")].append(line)
    return found


async def test_leads_without_webhooks_are_named_exactly_and_restored_with_their_answers(recording: Recording) -> None:
    campaign = plan_campaign(7, leads=_LEADS, start=now() - timedelta(hours=3), mix=_MIX)
    recording.start("streams")
    recording.graph.world.threads.learn(campaign.unseen, now())
    await recording.write(campaign.deliveries)
    await recording.until_closed(len(campaign.leads))
    before = newest_of(await recording.leads())
    withheld = sorted(map(expected, campaign.withheld))
    unanswered = {lead.lead_id for lead in before.values() if not lead.answers}
    assert (len(before), len(withheld) > 20) == (_LEADS - len(withheld), True)

    found = await backfill(recording, campaign, "--dry-run", status=1)

    assert sorted(map(told, found["missing"])) == withheld
    assert {lead["lead_id"] for lead in found["unanswered"]} == unanswered
    assert sum(day["missing"] for day in found["day"]) == len(withheld)
    assert newest_of(await recording.leads()) == before

    assert await backfill(recording, campaign) == found
    await recording.until_closed(_LEADS)

    after = newest_of(await recording.leads())
    recovered = [lead for lead_id, lead in after.items() if lead_id not in before]
    assert sorted(map(had, recovered)) == withheld
    assert {lead.close_reason for lead in recovered} == {"recovered"}
    assert all(lead.answers for lead in after.values())
    assert {lead_id: lead for lead_id, lead in after.items() if lead_id in before and lead_id not in unanswered} == {
        lead_id: lead for lead_id, lead in before.items() if lead_id not in unanswered
    }

    again = await backfill(recording, campaign, "--dry-run")

    assert (again["missing"], again["unanswered"]) == ([], [])
    assert {day["completeness"] for day in again["day"]} == {1.0}
    assert recording.graph.most_conversation_calls_in_a_second() <= 2
