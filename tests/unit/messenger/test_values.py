"""A body is read as the standard library reads it, however hostile it is."""

import json
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from messenger.values import read_body

HOSTILE = {
    "duplicate keys": b'{"a": 1, "b": 2, "a": {"c": 3, "c": 4}}',
    "half a surrogate pair": rb'{"\ud800": "\udc00 \ud83d\ude00 \ud83d"}',
    "a surrogate in UTF-8": b'"\xed\xa0\x80"',
    "NaN": b'[NaN, Infinity, -Infinity, {"a": NaN}]',
    "numbers beyond 64 bits": b"[18446744073709551616, -9223372036854775809, 1e400, -1e400, 1e-400, -0, -0.0]",
    "a number as long as Python reads": b"1" * 4300,
    "a number longer than that": b"1" * 4301,
    "a byte-order mark": b'\xef\xbb\xbf{"a": 1}',
    "UTF-16": '{"a": "\u00e9"}'.encode("utf-16"),
    "UTF-32": '{"a": "\u00e9"}'.encode("utf-32-le"),
    "bytes that are no text": b'"\xff"',
    "an overlong NUL": b'"\xc0\x80"',
    "control characters": b'"a\x00b\nc"',
    "escaped control characters": rb'"\u0000\n\/"',
    "an unknown escape": rb'"\x41"',
    "trailing commas": b"[1, 2,]",
    "more than a value": b"{} {}",
    "numbers that JSON has not": b"[01, +1, .5, 1.]",
    "spaces that JSON has not": b"\x0c{}\xc2\xa0",
    "nothing": b"",
}
FRAGMENTS = [
    *b'{ } [ ] , : " true false null NaN -Infinity 0 -0 1 -1 12 .5 e9 E+400 1e-7 a \\ u ud83d \\ude00 \\n'.split(),
    b'{"a":', b'"a"', b"\\ud800", b"\xc3\xa9", b"\xed\xa0\x80", b"\xff", b"\x00", b"\xef\xbb\xbf", b" ", b"\n",
    b"18446744073709551616", b"0" * 30,
]  # fmt: skip
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


def outcome(read: Any, body: bytes) -> tuple[str, str]:
    """The value with its types, or the kind of the refusal."""
    try:
        return "value", repr(read(body))
    except RecursionError:
        return "refused", "too deep"
    except ValueError:
        return "refused", "not JSON"


@pytest.mark.parametrize("body", HOSTILE.values(), ids=HOSTILE)
def test_hostile_json_is_read_or_refused_as_by_the_standard_library(body: bytes) -> None:
    assert outcome(read_body, body) == outcome(json.loads, body)


@given(st.lists(st.sampled_from(FRAGMENTS), max_size=14).map(b"".join))
def test_any_pieces_of_json_are_read_or_refused_as_by_the_standard_library(body: bytes) -> None:
    assert outcome(read_body, body) == outcome(json.loads, body)


@given(VALUES, st.booleans(), st.integers(0, 300), st.sampled_from([b"", *FRAGMENTS]))
def test_json_with_a_piece_too_many_is_read_or_refused_as_by_the_standard_library(
    value: Any, escaped: bool, place: int, piece: bytes
) -> None:
    body = json.dumps(value, ensure_ascii=escaped).encode("utf-8", "surrogatepass")
    body = body[:place] + piece + body[place:]

    assert outcome(read_body, body) == outcome(json.loads, body)


@pytest.mark.parametrize("depth", [sys.getrecursionlimit() // 2, 100_000])
def test_deep_nesting_is_read_or_refused_as_by_the_standard_library(depth: int) -> None:
    body = b"[" * depth + b"]" * depth

    assert outcome(read_body, body) == outcome(json.loads, body)
