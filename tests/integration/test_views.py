"""The views answer the same on every warehouse, and the recipes of docs/warehouse.md run on each."""

import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from leads.records import NOTICE_RULE
from messenger.events import Ad, Answer
from sinks.warehouse.postgres.warehouse import READER
from sinks.warehouse.views import VIEWS
from tests.builders import MINUTE, NOON, SECOND
from tests.integration.warehouses import Target
from tests.warehouse_rows import dead_letter, lead_row, leads, message_row, messages, outcome_row, outcomes, refused

RECIPES = Path(__file__).parents[2] / "docs" / "warehouse.md"
SUMMER = Ad("120", "Summer", None, None)
MENLO, OAKLAND = Answer("City?", "Menlo Park"), Answer("City?", "Oakland")
DAY = NOON.date()


def _filled(target: Target) -> None:
    """Four leads: read and replied to, followed up, dropped by a person who opted out, and one of yesterday."""
    writer = target.open()
    writer.open([leads(0), outcomes(0), messages(0), refused(0)])
    writer.write(
        {
            "leads": [
                lead_row(0, 0, "l1", ad=SUMMER, psid="701", answers=(), answers_source="none"),
                lead_row(0, 1, "l1", revision=2, ad=SUMMER, psid="701", answers=(MENLO, Answer("When?", "9:30"))),
                lead_row(0, 2, "l2", ad=SUMMER, psid="702", answers=(OAKLAND,)),
                lead_row(0, 3, "l3", ad=SUMMER, psid="703", outcome="incomplete", answers=(), answers_source="none"),
                lead_row(0, 4, "l4", psid="704", answers=(MENLO,), first_seen_at=NOON - timedelta(days=1)),
            ],
            "followup-outcomes": [
                outcome_row(0, 0, "c1", "attempting", occurred_at=NOON + SECOND, lead_id="l1"),
                outcome_row(0, 1, "c1", "sent", occurred_at=NOON + 2 * SECOND, lead_id="l1"),
                outcome_row(0, 2, "c1", "read", occurred_at=NOON + MINUTE, lead_id="l1"),
                outcome_row(0, 3, "c2", "sent", occurred_at=NOON + 5 * SECOND, lead_id="l2"),
                outcome_row(0, 4, "c3", "expired", occurred_at=NOON + MINUTE, lead_id="l3", reason="too_late"),
                outcome_row(0, 5, "n1", "cancelled", lead_id="l3", rule=NOTICE_RULE, reason="opted_out"),
            ],
            "messenger-events": [
                _message_of("701", 0, at=NOON + SECOND),
                _message_of("701", 1, at=NOON + 3 * MINUTE),
                _message_of("702", 2, at=NOON),
            ],
            "messenger-webhooks-dlq": [dead_letter(0, b"\x00{"), dead_letter(1, b"", reason="empty")],
        },
        {leads(0): 5, outcomes(0): 6, messages(0): 3, refused(0): 2},
    )


def _message_of(psid: str, offset: int, **given: Any) -> dict[str, Any]:
    return {**message_row(offset, **given), "psid": psid}


def test_a_journey_is_one_row_a_lead_with_its_first_moments(target: Target) -> None:
    _filled(target)

    found = target.ask(
        "select lead_id, answered, followed_up_at, read_at, replied_at, seconds_to_followup"
        " from lead_journeys order by lead_id"
    )

    assert found == [
        ("l1", True, NOON + 2 * SECOND, NOON + MINUTE, NOON + 3 * MINUTE, 2.0),
        ("l2", True, NOON + 5 * SECOND, None, None, 5.0),
        ("l3", False, None, None, None, None),
        ("l4", True, None, None, None, None),
    ]


def test_a_follow_up_is_known_by_any_step_after_it_and_a_message_of_its_moment_is_no_reply(target: Target) -> None:
    writer = target.open()
    writer.open([leads(0), outcomes(0), messages(0)])
    writer.write(
        {
            "leads": [lead_row(0, 0, "l1", psid="701")],
            "followup-outcomes": [outcome_row(0, 0, "c1", "delivered", occurred_at=NOON + SECOND, lead_id="l1")],
            "messenger-events": [_message_of("701", 0, at=NOON + SECOND)],
        },
        {leads(0): 1, outcomes(0): 1, messages(0): 1},
    )

    found = target.ask("select followed_up_at, read_at, replied_at from lead_journeys")

    assert found == [(NOON + SECOND, None, None)]


def test_the_funnel_counts_by_page_ad_and_day(target: Target) -> None:
    _filled(target)

    found = target.ask(
        "select ad_title, day, leads, complete, answered, followed_up, read, replied from lead_funnel order by day desc"
    )

    assert found == [
        ("Summer", DAY, 3, 2, 2, 2, 1, 1),
        (None, DAY - timedelta(days=1), 1, 1, 1, 0, 0, 0),
    ]


def test_answers_are_one_row_each_in_their_order(target: Target) -> None:
    _filled(target)

    found = target.ask("select lead_id, ad_id, position, question, answer from lead_answers order by 1, 3")

    assert found == [
        ("l1", "120", 1, "City?", "Menlo Park"),
        ("l1", "120", 2, "When?", "9:30"),
        ("l2", "120", 1, "City?", "Oakland"),
        ("l4", None, 1, "City?", "Menlo Park"),
    ]


def test_answers_are_counted_by_question(target: Target) -> None:
    _filled(target)

    found = target.ask(
        "select answer, sum(leads) from answer_counts where question = 'City?' group by answer order by 1"
    )

    assert found == [("Menlo Park", 2), ("Oakland", 1)]


def test_speed_is_told_by_its_median_and_its_tail(target: Target) -> None:
    _filled(target)

    assert target.ask("select day, followed_up, median_seconds, p90_seconds from followup_speed") == [
        (DAY, 2, 3.5, pytest.approx(4.7))
    ]


def test_dead_letters_show_why_and_where_but_no_bytes(target: Target) -> None:
    _filled(target)

    shown = target.ask(
        'select topic, "partition", "offset", stage, reason, value_bytes from dead_letters order by _offset'
    )
    kept = target.ask("select key, value from dead_letter_records order by _offset")

    assert shown == [
        ("messenger-webhooks", 3, 4711, "split", "not_json", 2),
        ("messenger-webhooks", 3, 4711, "split", "empty", 0),
    ]
    assert kept == [(b"page:psid", b"\x00{"), (b"page:psid", b"")]


@pytest.mark.parametrize("view", [view.name for view in VIEWS])
def test_every_view_is_there_while_nothing_is(target: Target, view: str) -> None:
    target.open()

    assert target.ask(f"select * from {view}") == []


def _queries() -> list[Any]:
    """Those that the page prints under each question."""
    section = RECIPES.read_text(encoding="utf-8").split("## An analyst's five questions")[1].split("\n## ")[0]
    asked = re.findall(r"^\d\. (.+?)\n+ +```sql\n(.+?)```", section, re.MULTILINE | re.DOTALL)
    return [pytest.param(query, id=question) for question, query in asked]


def test_the_readme_has_five_questions() -> None:
    assert len(_queries()) == 5


@pytest.mark.parametrize("query", _queries())
def test_a_question_of_the_readme_is_answered(target: Target, query: str) -> None:
    _filled(target)

    answer = target.ask(query)

    assert answer
    assert not any(NOTICE_RULE in row for row in answer), "an opt-out is no follow-up"


def test_the_reader_role_reads_all_but_the_bytes_of_dead_letters_and_writes_nothing(postgres_database: str) -> None:
    with psycopg.connect(postgres_database, autocommit=True) as connection:
        connection.execute(f"create role {READER} nologin")
    try:
        target = Target(postgres_database)
        _filled(target)
        target.writers[0].close()
        with psycopg.connect(postgres_database, autocommit=True) as connection:
            connection.execute(f"set role {READER}")

            assert connection.execute("select count(*) from lead_funnel").fetchone() == (2,)
            assert connection.execute("select count(*) from dead_letters").fetchone() == (2,)
            for forbidden in (
                "select value from dead_letter_records",
                "delete from leads",
                "select * from kafka_offsets",
            ):
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    connection.execute(forbidden)
    finally:
        with psycopg.connect(postgres_database, autocommit=True) as connection:
            connection.execute(f"drop owned by {READER}")
            connection.execute(f"drop role {READER}")
