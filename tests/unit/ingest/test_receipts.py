"""Receipts: what a log of ingest promised, whatever else stands in it."""

import json

import pytest

from ingest.receipts import NoReceipt, Promise, read_promises

ACCEPTED = {"event": "delivery.accepted", "delivery_id": "d1", "receipt": "messenger-webhooks/0/7", "sha256": "ab"}


def test_promises_are_read_among_other_events_words_of_a_crash_and_a_line_cut_short() -> None:
    line = json.dumps(ACCEPTED)
    log = [json.dumps({"event": "ingest.started"}), line, "Error: the spool is locked", "[1, 2]", line[:40]]

    assert list(read_promises(log)) == [Promise("d1", "messenger-webhooks/0/7", "ab")]


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
