"""TLS, users and ACLs change nothing in what a campaign gives."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.secured_campaign import plain_leads, plan, secured_leads
from tests.secured_kafka import SecuredKafka

pytestmark = pytest.mark.faults


def test_a_campaign_gives_the_same_leads_as_without_security(
    secured_kafka: SecuredKafka, kafka_broker: str, tmp_path: Path, topic_prefix: str
) -> None:
    campaign = plan()

    with ThreadPoolExecutor() as pool:
        secured = pool.submit(secured_leads, campaign, secured_kafka, tmp_path / "secured", topic_prefix)
        plain = pool.submit(plain_leads, campaign, kafka_broker, tmp_path / "plain", topic_prefix)

    assert len(plain.result()) == len(campaign.leads)
    assert secured.result() == plain.result()
