"""JSON whose values know their line and key."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from messenger.located_json import BadJson, Located, read_json

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
)


def plain(place: Located) -> Any:
    match place.value:
        case dict():
            return {name: plain(field) for name, field in place.fields.items()}
        case list():
            return [plain(item) for item in place.items]
        case value:
            return value


@given(JSON, st.sampled_from([None, 0, "\t"]))
def test_values_are_those_of_json(value: Any, indent: int | str | None) -> None:
    assert plain(read_json(json.dumps(value, indent=indent))) == value


@given(JSON)
def test_text_that_needs_no_escapes_is_read_as_well(value: Any) -> None:
    assert plain(read_json(json.dumps(value, ensure_ascii=False))) == value


def test_each_value_knows_its_line_and_its_key() -> None:
    whole = read_json('{\n "a": [\n  1,\n  {"b": "{\\"x\\": 1,\\n}"}\n ],\n\n "c": null}')

    inner = whole.fields["a"].items[1].fields["b"]
    assert (inner.line, inner.key, inner.value) == (4, "a[1].b", '{"x": 1,\n}')
    assert (whole.fields["c"].line, whole.fields["c"].key) == (7, "c")
    assert (whole.line, whole.key) == (1, "")


def test_a_key_that_is_no_plain_name_stays_on_its_line() -> None:
    (strange,) = read_json('{"a": {"x\\n\\ud800": 1}}').fields["a"].fields.values()

    assert strange.key == r'a."x\n\ud800"'


def test_what_is_no_object_and_no_list_has_no_parts() -> None:
    assert (read_json("5").fields, read_json('"text"').items) == ({}, [])


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("", 1, "Expecting value"),
        ('{"a": 1\n\n"b": 2}', 3, "Expecting ',' delimiter"),
        ('{\n"a": 1,\n"a": 2}', 3, "duplicate key 'a'"),
        ("[" * 102 + "]" * 102, 1, "deeper than 100 levels"),
        ("[" * 100_000, 1, "deeper than 100 levels"),
        ("[1,\n" + "9" * 5000 + "]", 2, "a number is too long to read"),
        ('{"a": 1,\n"b": NaN}', 2, "this is not JSON: NaN"),
        ("[\n\n-Infinity]", 3, "this is not JSON: -Infinity"),
        ("message:\n  text: Hi\n", 1, "this is not JSON"),
    ],
    ids=["empty", "comma", "twice", "deep", "very deep", "long number", "nan", "infinity", "yaml"],
)
def test_what_is_wrong_is_told_with_its_line(text: str, line: int, said: str) -> None:
    with pytest.raises(BadJson) as fault:
        read_json(text)

    assert fault.value.line == line
    assert said in fault.value.what
