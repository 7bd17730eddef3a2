"""The commands of examples/dbt/README.md on a warehouse with a few leads: the models hold what they say."""

import os
import re
import shutil
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest

from messenger.events import Ad, Answer
from sinks.warehouse.delta.warehouse import DeltaWarehouse
from sinks.warehouse.tables import tables_by_topic
from tests.builders import MINUTE, NOON, SECOND
from tests.warehouse_rows import CLUSTER, lead_row, leads, message_row, messages, outcome_row, outcomes

pytestmark = pytest.mark.dbt

ROOT = Path(__file__).parents[2]
PROJECT = ROOT / "examples" / "dbt"
SUMMER = Ad("120", "Summer", None, None)
MENLO, OAKLAND = Answer("City?", "Menlo Park"), Answer("City?", "Oakland")
DAY = NOON.date()


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project, copied as into a clone, after the commands of its README."""
    home = tmp_path_factory.mktemp("dbt")
    clone = home / "examples" / "dbt"
    shutil.copytree(PROJECT, clone, ignore=shutil.ignore_patterns("target", "logs", "exports", "leads.duckdb"))
    _fill(home / ".leadstream" / "demo" / "warehouse")
    [commands] = re.findall(r"```sh\n(.*?)```", (PROJECT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    binaries = (ROOT / ".venv-dbt" / "bin", Path(sys.executable).parent)
    path = os.pathsep.join([*map(str, binaries), "/usr/bin", "/bin"])
    done = subprocess.run(
        ["bash", "-euc", commands],
        cwd=home,
        # A proxy that nothing answers: whatever would be fetched fails.
        env={"PATH": path, "HOME": str(home), "HTTPS_PROXY": "http://127.0.0.1:9", "HTTP_PROXY": "http://127.0.0.1:9"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "ERROR=0" in done.stdout
    assert "WARN=0" in done.stdout
    assert "deprecat" not in done.stdout.lower()
    assert "outcome_and_speed" in done.stdout
    return clone


def _fill(warehouse: Path) -> None:
    """Four leads: read and replied to, followed up late, dropped, and one of yesterday."""
    writer = DeltaWarehouse(str(warehouse), tables_by_topic(str), cluster_id=CLUSTER)
    writer.open([leads(0), outcomes(0), messages(0)])
    writer.write(
        {
            "leads": [
                lead_row(0, 0, "l1", ad=SUMMER, psid="701", answers=(MENLO,)),
                lead_row(0, 1, "l2", ad=SUMMER, psid="702", answers=(OAKLAND,)),
                lead_row(0, 2, "l3", ad=SUMMER, psid="703", outcome="incomplete", answers=(), answers_source="none"),
                lead_row(0, 3, "l4", psid="704", answers=(MENLO,), first_seen_at=NOON - timedelta(days=1)),
            ],
            "followup-outcomes": [
                outcome_row(0, 0, "c1", "sent", occurred_at=NOON + 2 * SECOND, lead_id="l1"),
                outcome_row(0, 1, "c1", "read", occurred_at=NOON + MINUTE, lead_id="l1"),
                outcome_row(0, 2, "c2", "sent", occurred_at=NOON + 10 * MINUTE, lead_id="l2"),
                outcome_row(0, 3, "c3", "rejected", lead_id="l3", reason="unsendable_message: the text is empty"),
                outcome_row(0, 4, "n1", "cancelled", lead_id="l3", rule="opt-out", reason="opted_out"),
            ],
            "messenger-events": [{**message_row(0, at=NOON + 3 * MINUTE), "psid": "701"}],
        },
        {leads(0): 4, outcomes(0): 5, messages(0): 1},
    )
    writer.close()


def _ask(built: Path, query: str) -> list[tuple[Any, ...]]:
    with duckdb.connect(str(built / "leads.duckdb"), read_only=True) as connection:
        return list(connection.execute(query).fetchall())


def test_the_funnel_is_by_day_and_ad(built: Path) -> None:
    assert _ask(
        built,
        "select day, ad_id, ad_title, leads, complete, followed_up, read, replied, reply_rate"
        " from funnel_by_day_and_ad order by day",
    ) == [
        (DAY - timedelta(days=1), "no ad", None, 1, 1, 0, 0, 0, None),
        (DAY, "120", "Summer", 3, 2, 2, 1, 1, 0.5),
    ]


def test_speed_to_lead_is_by_day(built: Path) -> None:
    assert _ask(
        built, "select day, leads, followed_up, within_a_minute, median_seconds from speed_to_lead order by day"
    ) == [(DAY - timedelta(days=1), 1, 0, 0, None), (DAY, 3, 2, 1, 301.0)]


def test_the_effect_of_a_follow_up_is_by_how_soon_it_came(built: Path) -> None:
    assert _ask(built, "select outcome, speed, leads, read_rate, reply_rate from followup_effect order by speed") == [
        ("complete", "within a minute", 1, 1.0, 1.0),
        ("complete", "within an hour", 1, 0.0, 0.0),
    ]


def test_commands_are_counted_by_rule_and_reason_without_opt_outs(built: Path) -> None:
    assert _ask(built, "select status, reason, commands from followups_by_rule order by status") == [
        ("read", None, 1),
        ("rejected", "unsendable_message", 1),
        ("sent", None, 1),
    ]


def test_answers_have_their_share_of_an_ad(built: Path) -> None:
    assert _ask(built, "select ad_id, answer, leads, share from answers_by_ad order by ad_id, answer") == [
        ("120", "Menlo Park", 1, 0.5),
        ("120", "Oakland", 1, 0.5),
        ("no ad", "Menlo Park", 1, 1.0),
    ]


def test_a_model_that_breaks_its_promise_fails_the_build(built: Path) -> None:
    model = built / "models" / "journeys.sql"
    text = model.read_text(encoding="utf-8")
    model.write_text(text.replace("'within an hour'", "'soon'"), encoding="utf-8")

    done = subprocess.run(
        [ROOT / ".venv-dbt" / "bin" / "dbt", "build", "--select", "journeys"],
        cwd=built,
        env={"PATH": "/usr/bin:/bin", "HOME": str(built)},
        capture_output=True,
        text=True,
        check=False,
    )

    model.write_text(text, encoding="utf-8")
    assert done.returncode == 1
    assert "accepted_values_journeys_speed" in done.stdout
