"""What a dead letter says of itself, when it may go back, and what goes."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest

from operations.dead_letters.letters import (
    Discard,
    Known,
    Letter,
    Wanted,
    grouped,
    read_discard,
    read_letter,
    sent_back,
)
from runtime.clock import to_millis
from runtime.dead_letter import Headers, dead_letter

NOON = datetime(2026, 5, 5, 12, tzinfo=UTC)
NOTHING_KNOWN = Known(gone=(), newest={}, most_redrives=3)


@dataclass(frozen=True, slots=True)
class _Record:
    topic: str = "orders"
    partition: int = 1
    offset: int = 41
    key: bytes | None = b"k"
    value: bytes | None = b"\x00\xff not ours"
    headers: Headers | tuple[tuple[str, bytes], ...] = (("received-at", b"1"),)
    timestamp: int = to_millis(NOON)


def _letter(record: _Record | None = None, *, reason: str = "too short", offset: int = 7) -> Letter:
    key, value, headers = dead_letter(record or _Record(), stage="decode", reason=reason, fault="NotDecodable")
    return read_letter(_Record("orders-dlq", 0, offset, key, value, headers), "orders")


def test_a_letter_knows_where_it_was_refused_and_why() -> None:
    letter = _letter()

    assert (letter.id, letter.origin_topic, letter.origin) == ("orders-dlq/0/7", "orders", (1, 41))
    assert (letter.stage, letter.fault, letter.reason) == ("decode", "NotDecodable", "too short")
    assert (letter.refused_at, letter.redrives) == (NOON, 0)


def test_what_goes_back_is_what_came_and_a_count() -> None:
    key, value, headers = sent_back(_letter())

    assert (key, value) == (b"k", b"\x00\xff not ours")
    assert headers == [("received-at", b"1"), ("redrive-count", b"1")]


def test_what_goes_back_was_not_sent_by_ingest_just_now() -> None:
    letter = _letter(_Record(headers=[("sent-at", b"1"), ("received-at", b"1")]))

    assert sent_back(letter)[2] == [("received-at", b"1"), ("redrive-count", b"1")]


def test_a_null_goes_back_as_a_null() -> None:
    assert sent_back(_letter(_Record(value=None)))[:2] == (b"k", None)


def test_a_record_that_is_refused_again_counts_on() -> None:
    key, value, headers = sent_back(_letter())

    again = _letter(_Record(key=key, value=value, headers=headers))

    assert again.redrives == 1
    assert sent_back(again)[2] == [("received-at", b"1"), ("redrive-count", b"2")]


@pytest.mark.parametrize(("redrives", "standing"), [(0, "open"), (2, "open"), (3, "stopped"), (4, "stopped")])
def test_a_letter_that_came_back_too_often_stays(redrives: int, standing: str) -> None:
    letter = _letter(_Record(headers=[("redrive-count", b"%d" % redrives)]))

    assert NOTHING_KNOWN.standing(letter) == standing


def test_a_letter_that_has_gone_does_not_go_twice() -> None:
    known = Known(gone={"orders-dlq/0/7"}, newest={}, most_redrives=3)

    assert known.standing(_letter(offset=7)) == "redriven"
    assert known.standing(_letter(offset=8)) == "open"


def test_a_letter_that_was_discarded_does_not_go() -> None:
    known = Known(gone=(), newest={}, most_redrives=3, discarded={"orders-dlq/0/7"})

    assert known.standing(_letter(offset=7)) == "discarded"
    assert known.standing(_letter(offset=8)) == "open"


def test_a_discard_keeps_who_and_why_and_a_redrive_is_none() -> None:
    discard = Discard("2026-05-05T12:00:00+00:00", "ops", "a producer's test, ä")

    assert read_discard(discard.at.encode(), discard.headers) == discard
    assert read_discard(discard.at.encode(), []) is None


def test_an_old_record_never_replaces_a_newer_one_of_its_key() -> None:
    def standing(newest: int) -> str:
        return Known(gone=(), newest={("orders", b"k"): newest}, most_redrives=3).standing(_letter())

    assert standing(41) == "open"
    assert standing(42) == "superseded"


@pytest.mark.parametrize(
    "said",
    [
        {},
        {"topic": b"elsewhere", "partition": b"1", "offset": b"2"},
        {"topic": b"orders", "partition": b"-1", "offset": b"2"},
        {"topic": b"orders", "partition": b"1"},
        {"topic": b"\xff", "partition": b"1", "offset": b"2"},
    ],
)
def test_a_letter_of_somebody_else_is_never_sent(said: dict[str, bytes]) -> None:
    headers = [(f"__connect.errors.{name}", value) for name, value in said.items()]

    letter = read_letter(_Record("orders-dlq", headers=headers), "orders")

    assert letter.origin is None
    assert NOTHING_KNOWN.standing(letter) == "foreign"


@pytest.mark.parametrize(
    ("wanted", "taken"),
    [
        (Wanted(), True),
        (Wanted(reason="SHORT"), True),
        (Wanted(reason="notdecodable"), True),
        (Wanted(reason="long"), False),
        (Wanted(since=NOON), True),
        (Wanted(since=NOON + timedelta(seconds=1)), False),
        (Wanted(until=NOON), False),
        (Wanted(ids=frozenset({"orders-dlq/0/7"})), True),
        (Wanted(ids=frozenset({"orders-dlq/0/8"})), False),
    ],
)
def test_letters_are_chosen_by_reason_time_and_id(wanted: Wanted, taken: bool) -> None:
    assert wanted.takes(_letter()) is taken


def test_groups_are_of_one_reason_and_the_largest_comes_first() -> None:
    letters = [_letter(reason="a", offset=1), _letter(reason="b", offset=2), _letter(reason="b", offset=3)]

    assert [(group[0].reason, len(group), group[-1].offset) for group in grouped(letters)] == [
        ("b", 2, 3),
        ("a", 1, 1),
    ]
