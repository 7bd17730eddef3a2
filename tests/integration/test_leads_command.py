"""`leadstream leads` over a real topic: what is shown, filtered and masked."""

import asyncio
import subprocess
import sys
from collections.abc import Mapping

import pytest
from click.testing import CliRunner

from cli.main import main
from leads.records import Lead, LeadId
from runtime.settings import Settings, variable
from schemas.codec import lead_codec
from tests.builders import CITY, MINUTE, NOON, PERSON, a_lead
from tests.integration.topics import put

pytestmark = pytest.mark.integration

FIRST, SECOND = LeadId("8d6c0c1e-0000-5000-8000-000000000001"), LeadId("8d6c0c1e-0000-5000-8000-000000000002")


@pytest.fixture
def environ(kafka_topics: Settings) -> Mapping[str, str]:
    """Of a cluster with two leads, the first of which has two revisions."""
    leads = [
        a_lead(revision=2, updated_at=NOON + MINUTE),
        a_lead(),
        a_lead(lead_id=SECOND, outcome="incomplete", page_id="617203344871950"),
    ]
    asyncio.run(put(kafka_topics, kafka_topics.topic("leads"), *map(_record, leads)))
    return {variable(name): str(getattr(kafka_topics, name)) for name in ("broker", "topic_prefix", "partitions")}


def _record(lead: Lead) -> tuple[bytes, bytes]:
    return lead.lead_id.encode(), lead_codec().encode(lead)


def listed(environ: Mapping[str, str], *options: str) -> str:
    result = CliRunner().invoke(main, ["leads", "list", *options], env=environ)
    assert result.exit_code == 0, result.output
    return result.output


def test_each_lead_is_listed_once_with_its_newest_revision(environ: Mapping[str, str]) -> None:
    printed = listed(environ)

    assert printed.count(FIRST) == printed.count(SECOND) == 1
    assert "2 leads" in printed
    assert printed.index(FIRST) < printed.index(SECOND), "the last changed comes first"


@pytest.mark.parametrize(
    ("options", "found"),
    [
        (["--page", "617203344871950"], {SECOND}),
        (["--outcome", "complete"], {FIRST}),
        (["--since", "2026-03-02T12:00:30"], {FIRST}),
        (["--limit", "1"], {FIRST}),
        (["--page", "7"], set()),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_leads_are_filtered(environ: Mapping[str, str], options: list[str], found: set[str]) -> None:
    printed = listed(environ, *options)

    assert {lead for lead in (FIRST, SECOND) if lead in printed} == found


def test_what_is_personal_is_shown_only_when_asked_for(environ: Mapping[str, str]) -> None:
    masked, open_ = listed(environ), listed(environ, "--show-pii", "--outcome", "complete")

    assert PERSON not in masked
    assert CITY.answer not in masked
    assert PERSON in open_


def test_tail_prints_what_came_since_and_goes_on(environ: Mapping[str, str]) -> None:
    tail = subprocess.Popen(
        [sys.executable, "-m", "cli", "leads", "tail", "--since", "2026-03-02"], env=environ, stdout=subprocess.PIPE
    )
    try:
        assert tail.stdout is not None
        lines = [tail.stdout.readline().decode() for _ in range(3)]
        assert sum(FIRST in line for line in lines) == 2
        assert tail.poll() is None
    finally:
        tail.kill()
        tail.communicate()
