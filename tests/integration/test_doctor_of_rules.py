"""The doctor sees in the last leads whether what a rule waits for ever comes."""

from dataclasses import replace
from pathlib import Path

import pytest

from leads.records import Lead
from operations.deployment import Deployment
from operations.doctor.verdicts import Verdict
from operations.doctor.waits import examine_rules
from runtime.cluster import cluster_of
from runtime.settings import Settings
from schemas.codec import BUILT_IN, lead_codec
from schemas.topics import LEADS
from tests.builders import PAGE, a_lead
from tests.integration.topics import put

pytestmark = [pytest.mark.integration, pytest.mark.anyio]


async def test_a_page_whose_last_leads_have_no_handover_is_named(kafka_topics: Settings, tmp_path: Path) -> None:
    followups = tmp_path / "followups.yaml"
    followups.write_text("rules: [{name: x, wait_for: handover, send: {text: Hello}}]")
    settings = replace(kafka_topics, followups=followups)
    deployment = Deployment(settings, cluster_of(settings), BUILT_IN)

    async def write(*leads: Lead) -> None:
        records = [(lead.lead_id.encode(), lead_codec().encode(lead)) for lead in leads]
        await put(settings, settings.topic(LEADS.name), *records)

    async def seen() -> list[tuple[str, str]]:
        return [(verdict.standing, verdict.place) for verdict in await examine_rules(settings, deployment, [])]

    assert await seen() == [("ok", "rules")]
    await write(*(a_lead(lead_id=str(number), handover_at=None, closed=True) for number in range(3)))
    assert await seen() == [("warning", "x")]
    [verdict] = await examine_rules(settings, deployment, [])
    assert verdict.seen.endswith(f"none of the last 3 leads of Page {PAGE} had one")
    assert await examine_rules(settings, deployment, [Verdict("topics", "kafka", "broken", "missing")]) != [verdict]
    await put(settings, settings.topic(LEADS.name), (b"1", None))
    [verdict] = await examine_rules(settings, deployment, [])
    assert "the last 2 leads" in verdict.seen
    await write(a_lead(lead_id="0", revision=2, closed=True))
    assert await seen() == [("ok", "rules")]
