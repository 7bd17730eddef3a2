"""A campaign over TLS and SCRAM, each stage with a user of its own who may do only what `topics acls` prints."""

from pathlib import Path

import pytest

from tests.secured_campaign import plan, secured_leads
from tests.secured_kafka import SecuredKafka

pytestmark = pytest.mark.integration


def test_a_campaign_gives_the_planned_leads(secured_kafka: SecuredKafka, tmp_path: Path, topic_prefix: str) -> None:
    campaign = plan()

    leads = secured_leads(campaign, secured_kafka, tmp_path / "secured", topic_prefix)

    newest = [revisions[-1] for revisions in leads.values()]
    planned = [
        {
            "page_id": lead.page_id,
            "psid": lead.psid,
            "outcome": lead.outcome,
            "answers": lead.answers or (lead.transcript if lead.outcome == "complete" else ()),
        }
        for lead in campaign.leads
    ]
    assert sorted(({name: lead[name] for name in planned[0]} for lead in newest), key=str) == sorted(planned, key=str)
