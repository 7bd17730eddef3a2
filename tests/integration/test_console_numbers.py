"""The numbers of the console are the same over every warehouse, and nothing is left behind by a query that spills."""

import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from console.numbers import read_numbers, read_outcomes
from leads.records import NOTICE_RULE
from messenger.events import PageId
from sinks.warehouse import query
from sinks.warehouse.query import BadQuery, ask
from tests.builders import PAGE
from tests.integration.warehouses import Target
from tests.made_warehouse import make_warehouse
from tests.warehouse_rows import lead_row, leads, message_row, messages, outcome_row, outcomes

NOW = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
# Of each lead: days ago, seconds to its first follow-up, whether it was read.
AGES = {"l1": (0.5, 2.0, True), "l2": (0.6, 400.0, False), "l3": (3.0, None, False), "l4": (20.0, 8.0, True)}
OLD = {"l5": (400.0, 5000.0, False)}


def _filled(target: Target) -> None:
    rows, sent = [], []
    for number, (lead_id, (days, seconds, is_read)) in enumerate((AGES | OLD).items()):
        seen_at = NOW - timedelta(days=days)
        outcome = "incomplete" if lead_id == "l3" else "complete"
        given: dict[str, Any] = {
            "outcome": outcome,
            "first_seen_at": seen_at,
            "updated_at": seen_at,
            "psid": f"70{number}",
        }
        rows.append(lead_row(0, 2 * number, lead_id, **given))
        rows.append(lead_row(0, 2 * number + 1, lead_id, revision=2, **given))
        if seconds is not None:
            status, at = "read" if is_read else "sent", seen_at + timedelta(seconds=seconds)
            sent.append(outcome_row(0, number, f"c{number}", status, occurred_at=at, lead_id=lead_id))
    sent.append(outcome_row(0, 9, "n", "cancelled", lead_id="l3", rule=NOTICE_RULE, reason="opted_out"))
    reply = {**message_row(0, at=NOW - timedelta(minutes=1)), "psid": "700"}
    writer = target.open()
    writer.open([leads(0), outcomes(0), messages(0)])
    ends = {leads(0): 2 * len(AGES | OLD), outcomes(0): 10, messages(0): 1}
    writer.write({"leads": rows, "followup-outcomes": sent, "messenger-events": [reply]}, ends)


def test_the_numbers_of_each_span_page_and_day(target: Target, tmp_path: Path) -> None:
    _filled(target)

    numbers = read_numbers(target.url, NOW, tmp_path / "spill")

    steps = {name: [count for _, count in funnel.steps] for name, funnel in numbers.spans.items()}
    assert steps == {
        "24 hours": [2, 2, 2, 2, 1, 1],
        "7 days": [3, 2, 3, 2, 1, 1],
        "30 days": [4, 3, 4, 3, 2, 1],
        "all time": [5, 4, 5, 4, 2, 1],
    }
    assert numbers.speeds["24 hours"] == pytest.approx((201.0, 360.2))
    assert numbers.speeds["all time"].median == 204.0
    assert numbers.spans["all time"].buckets == (1, 1, 0, 0, 1, 0, 1)
    assert {(name, funnel.leads) for (name, page), funnel in numbers.pages.items() if page == PAGE} == {
        (name, counts[0]) for name, counts in steps.items()
    }
    assert numbers.pages["30 days", PageId(PAGE)].first_at == NOW - timedelta(days=20)
    assert {day.isoformat(): (funnel.leads, funnel.followed_up) for day, funnel in numbers.days.items()} == {
        "2026-03-01": (1, 1),
        "2026-03-02": (1, 1),
        "2026-02-27": (1, 0),
        "2026-02-10": (1, 1),
    }
    assert numbers.heard == {PAGE: NOW - timedelta(minutes=1)}
    assert {(count.status, count.count) for count in read_outcomes(target.url, tmp_path / "spill")} == {
        ("read", 2),
        ("sent", 2),
    }


def test_an_empty_warehouse_has_no_numbers(target: Target, tmp_path: Path) -> None:
    target.open().close()

    numbers = read_numbers(target.url, NOW, tmp_path / "spill")

    assert (numbers.spans, numbers.days, numbers.heard) == ({}, {}, {})


_HUNGRY = "select count(*) from (select distinct range, hash(range), repeat('x', 100) || range from range(1_500_000))"


def test_what_does_not_fit_into_memory_goes_to_the_directory_that_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_warehouse(str(tmp_path / "warehouse"), 1)
    monkeypatch.setattr(query, "_MEMORY", "150MB")
    monkeypatch.chdir(tmp_path)
    spill, seen = tmp_path / "state" / "queries", set[str]()
    spill.parent.mkdir()
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(0.01):
            seen.update(file.name for file in spill.glob("*"))

    looking = threading.Thread(target=look)
    looking.start()
    try:
        answer = ask(str(tmp_path / "warehouse"), _HUNGRY, spill=spill)
    finally:
        ended.set()
        looking.join()

    assert answer.rows == ((1_500_000,),)
    assert any("storage" in name for name in seen)
    assert list(spill.iterdir()) == []
    assert spill.stat().st_mode & 0o077 == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["state", "warehouse"]


def test_without_such_a_directory_a_query_that_needs_more_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_warehouse(str(tmp_path / "warehouse"), 1)
    monkeypatch.setattr(query, "_MEMORY", "60MB")

    with pytest.raises(BadQuery, match="more than a quarter of this machine"):
        ask(str(tmp_path / "warehouse"), _HUNGRY, spill=tmp_path / "none" / "queries")
    assert not (tmp_path / "none").exists()
