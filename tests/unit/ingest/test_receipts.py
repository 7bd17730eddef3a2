"""Receipts: what a log of ingest promised, whatever else stands in it."""

import json

import pytest

from ingest.receipts import NoReceipt, Promise, read_promises

ACCEPTED = {"event": "delivery.accepted", "delivery_id": "d1", "receipt": "messenger-webhooks/0/7", "sha256": "ab"}


def test_promises_are_read_among_other_events_words_of_a_crash_and_a_line_cut_short() -> None:
    line = json.dumps(ACCEPTED)
    cut = line[:40]
    log = [json.dumps({"event": "ingest.started"}), line, "Error: the spool is locked", "[1, 2]", cut, cut + line]

    assert list(read_promises(log)) == [Promise("d1", "messenger-webhooks/0/7", "ab")]


@pytest.mark.parametrize(
    ("before", "behind"),
    [
        ("", "\n"),
        ("\x1b[2K", "\n"),
        ("ingest-1  | ", "\n"),
        ("\x1b[36mingest-1  | \x1b[0m", "\x1b[K\r\n"),
        ("ingest-1  | 2026-03-01T00:00:00.000000000Z ", "\n"),
        ("[pod/ingest-0/ingest] ", "\n"),
    ],
    ids=["plain", "erased line", "service", "colours", "time", "pod"],
)
def test_a_promise_is_read_behind_what_container_engines_add(before: str, behind: str) -> None:
    line = f"{before}{json.dumps(ACCEPTED)}{behind}"

    assert list(read_promises([line])) == [Promise("d1", "messenger-webhooks/0/7", "ab")]


@pytest.mark.parametrize(
    "log",
    [["no log at all"], [json.dumps({"event": "delivery.accepted", "delivery_id": "d1"})]],
    ids=["other words", "a promise without its receipt"],
)
def test_what_is_no_log_of_ingest_is_refused(log: list[str]) -> None:
    with pytest.raises(NoReceipt):
        list(read_promises(log))


def test_log_of_an_ingest_that_took_nothing_promises_nothing() -> None:
    assert list(read_promises([])) == []
