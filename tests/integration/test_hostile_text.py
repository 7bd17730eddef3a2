"""Commands over a real Kafka in which the title of an ad, an answer and a dead letter would move a terminal."""

import asyncio
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from click.testing import CliRunner

from cli.main import main
from messenger.events import Ad, Answer
from runtime import kafka
from runtime.cluster import cluster_of
from runtime.dead_letter import dead_letter
from runtime.settings import Settings, variable
from schemas.codec import lead_codec
from schemas.topics import WEBHOOKS
from tests.builders import a_lead
from tests.hostile import TEXT, assert_harmless
from tests.integration.topics import connected, put, records_of

pytestmark = pytest.mark.integration

LEAD = a_lead(ad=Ad(ad_title=TEXT), answers=(Answer("City?", TEXT),))
RULES = "rules:\n  - {name: thanks, send: {text: 'About {ad.ad_title}: {answers[City?]}'}}\n"


@pytest.fixture
def environ(kafka_topics: Settings, tmp_path: Path) -> Mapping[str, str]:
    """Of a cluster with a lead and a dead letter."""
    asyncio.run(_fill(kafka_topics))
    (tmp_path / "followups.yaml").write_text(RULES)
    names = ("broker", "topic_prefix", "partitions")
    return {
        **{variable(name): str(getattr(kafka_topics, name)) for name in names},
        variable("followups"): str(tmp_path / "followups.yaml"),
        variable("pages"): str(tmp_path / "pages.yaml"),
    }


async def _fill(settings: Settings) -> None:
    await put(settings, settings.topic("leads"), (LEAD.lead_id.encode(), lead_codec().encode(LEAD)))
    await put(settings, settings.topic(WEBHOOKS.name), (TEXT.encode(), TEXT.encode()))
    (record,) = await records_of(settings, settings.topic(WEBHOOKS.name))
    key, value, headers = dead_letter(record, stage="split", reason=TEXT, fault="UnreadableDelivery")
    async with connected(kafka.producer(cluster_of(settings), client_id="test")) as producer:
        await producer.send_and_wait(settings.topic(WEBHOOKS.dead_letters), value, key=key, headers=headers)


@pytest.fixture
def run(environ: Mapping[str, str]) -> Callable[..., str]:
    def invoke(*arguments: str) -> str:
        result = CliRunner().invoke(main, arguments, env=environ)
        assert result.exit_code == 0, result.output
        return result.output

    return invoke


def test_nothing_that_is_printed_moves_a_terminal(run: Callable[..., str]) -> None:
    assert_harmless(run("leads", "list", "--show-pii"))
    assert_harmless(run("followups", "try", "--lead", LEAD.lead_id, "--show-pii"))
    assert_harmless(run("dlq", "list"))
    assert_harmless(run("dlq", "redrive"))
    each = run("dlq", "list", "--each")
    assert_harmless(each)
    assert_harmless(run("dlq", "show", each.split()[1], "--show-pii"))


def test_the_tail_is_harmless_too(environ: Mapping[str, str]) -> None:
    tail = subprocess.Popen(
        [sys.executable, "-m", "cli", "leads", "tail", "--since", "2026-03-02", "--show-pii"],
        env=environ,
        stdout=subprocess.PIPE,
    )
    try:
        assert tail.stdout is not None
        assert_harmless(tail.stdout.readline().decode())
    finally:
        tail.kill()
        tail.communicate()
