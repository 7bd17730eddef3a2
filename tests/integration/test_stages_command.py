"""`leadstream stages set` over a real topic: the record that a CRM would write, and what is refused."""

import asyncio
from collections.abc import Mapping

import pytest
from click.testing import CliRunner, Result

from cli.main import main
from leads.records import LeadStage, stage_id
from runtime.kafka import partition_of
from runtime.settings import Settings, variable
from schemas.codec import lead_codec, stage_codec
from tests.builders import NOON, a_lead
from tests.integration.topics import put, records_of

pytestmark = pytest.mark.integration

LEAD = a_lead()


@pytest.fixture
def environ(kafka_topics: Settings) -> Mapping[str, str]:
    record = LEAD.lead_id.encode(), lead_codec().encode(LEAD)
    asyncio.run(put(kafka_topics, kafka_topics.topic("leads"), record))
    return {variable(name): str(getattr(kafka_topics, name)) for name in ("broker", "topic_prefix", "partitions")}


def stages_set(environ: Mapping[str, str], *arguments: str) -> Result:
    return CliRunner().invoke(main, ["stages", "set", *arguments], env=environ)


def test_a_stage_lies_beside_its_lead_under_an_id_that_is_always_the_same(
    environ: Mapping[str, str], kafka_topics: Settings
) -> None:
    for _ in range(2):
        done = stages_set(environ, LEAD.lead_id, "QualifiedLead", "--at", "2026-03-02T12:00", "--source", "crm")
        assert done.exit_code == 0, done.output

    records = asyncio.run(records_of(kafka_topics, kafka_topics.topic("lead-stages")))
    assert {record.partition for record in records} == {partition_of(LEAD.lead_id.encode(), kafka_topics.partitions)}
    assert [stage_codec().decode(record.value) for record in records] == 2 * [
        LeadStage(
            lead_id=LEAD.lead_id,
            page_id=LEAD.page_id,
            psid=LEAD.psid,
            stage="QualifiedLead",
            occurred_at=NOON,
            stage_id=stage_id(LEAD.lead_id, "QualifiedLead"),
            source="crm",
        )
    ]


@pytest.mark.parametrize(
    ("arguments", "refusal"),
    [
        (["none", "QualifiedLead"], "no lead none"),
        ([LEAD.lead_id, " "], "a stage has a name"),
        ([LEAD.lead_id, "x" * 256], "a stage has a name"),
        ([LEAD.lead_id, "QualifiedLead", "--source", "x" * 256], "a stage has a name"),
        ([LEAD.lead_id, "QualifiedLead", "--at", "2126-03-02"], "this time is still to come"),
    ],
    ids=["unknown-lead", "blank-stage", "long-stage", "long-source", "time-to-come"],
)
def test_what_is_no_stage_of_a_lead_is_refused(
    environ: Mapping[str, str], kafka_topics: Settings, arguments: list[str], refusal: str
) -> None:
    refused = stages_set(environ, *arguments)

    assert refused.exit_code == 1
    assert refusal in refused.output
    assert asyncio.run(records_of(kafka_topics, kafka_topics.topic("lead-stages"))) == []
