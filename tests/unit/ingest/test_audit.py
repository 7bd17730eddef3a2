"""Receipts: what a log of ingest promised, whatever else stands in it."""

import json
from hashlib import sha256

import pytest

from ingest.audit import Audit, NoReceipt, Promise, read_promises

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


def accepted(number: int, instance: str = "a" * 16) -> str:
    fields = {**ACCEPTED, "delivery_id": f"{instance}{number + 7:016x}", "receipt_number": number}
    return json.dumps(fields)


def closed(receipts: int, instance: str = "a" * 16) -> str:
    return json.dumps({"event": "receipts.closed", "instance": instance, "receipts": receipts})


@pytest.mark.parametrize(
    ("log", "gaps"),
    [
        pytest.param([accepted(0), accepted(1), closed(2)], [], id="all"),
        pytest.param([accepted(0), accepted(4)], [(1, 3)], id="in the middle"),
        pytest.param([accepted(0), closed(3)], [(1, 2)], id="at the end"),
        pytest.param([accepted(5), accepted(6)], [], id="what comes before is maybe in an older log"),
        pytest.param([accepted(6), accepted(5), accepted(6)], [], id="in another order, and twice"),
        pytest.param([accepted(0), accepted(9, "b" * 16), accepted(11, "b" * 16)], [(10, 10)], id="of one process"),
        pytest.param(
            [json.dumps(ACCEPTED), json.dumps({**ACCEPTED, "delivery_id": "d9"})], [], id="of an older release"
        ),
    ],
)
def test_receipts_that_a_log_lacks_are_told_by_their_numbers(log: list[str], gaps: list[tuple[int, int]]) -> None:
    audit = Audit.of(read_promises(log))

    assert [(gap.first, gap.last) for gap in audit.gaps] == gaps


def test_records_of_a_process_without_a_receipt_are_counted() -> None:
    audit = Audit.of(read_promises([accepted(0), accepted(2)]))

    for delivery_id in ("a" * 16 + f"{8:016x}", "b" * 32, "a" * 16 + f"{7:016x}"):
        audit.compare("messenger-webhooks/0/7", [("delivery-id", delivery_id.encode())], b"")

    assert audit.unreceipted == 1


BODY = b"a body"
HEADERS = [("delivery-id", b"d1")]


def an_audit(receipt: str) -> Audit:
    fields = {**ACCEPTED, "receipt": receipt, "sha256": sha256(BODY).hexdigest()}
    return Audit.of(read_promises([json.dumps(fields)]))


@pytest.mark.parametrize("receipt", ["messenger-webhooks/0/7,messenger-webhooks/3/2", "spool/messenger-webhooks-0/1"])
def test_a_delivery_is_kept_once_all_its_copies_are_in_kafka(receipt: str) -> None:
    audit = an_audit(receipt)

    audit.compare("messenger-webhooks/0/7", [*HEADERS, ("copy", b"1/2")], BODY)
    missing = len(audit.open)
    audit.compare("messenger-webhooks/3/2", [*HEADERS, ("copy", b"2/2")], BODY)
    audit.compare("messenger-webhooks/3/9", [*HEADERS, ("copy", b"2/2")], BODY)

    assert (missing, len(audit.open), audit.kept, audit.copies) == (1, 0, 1, 1)


def test_a_spooled_delivery_that_was_sent_again_as_fewer_copies_is_kept() -> None:
    audit = an_audit("spool/messenger-webhooks-0/1")

    for offset, copy in enumerate((b"1/3", b"1/2", b"2/2")):
        audit.compare(f"messenger-webhooks/0/{offset}", [*HEADERS, ("copy", copy)], BODY)

    assert (len(audit.open), audit.kept) == (0, 1)


def test_a_copy_with_other_bytes_is_different() -> None:
    audit = an_audit("messenger-webhooks/0/7,messenger-webhooks/3/2")

    audit.compare("messenger-webhooks/0/7", HEADERS, BODY)
    audit.compare("messenger-webhooks/3/2", HEADERS, b"another body")

    assert (len(audit.different), audit.kept, len(audit.open)) == (1, 0, 0)


def test_log_of_an_ingest_that_took_nothing_promises_nothing() -> None:
    assert list(read_promises([])) == []
