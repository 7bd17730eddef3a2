"""Our writer of Avro bodies writes what fastavro writes."""

import io
from collections.abc import Mapping
from typing import Any

import fastavro
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.clock import from_millis
from schemas.released import released
from schemas.writer import writer_of

PRIMITIVES: Mapping[str, st.SearchStrategy[Any]] = {
    "string": st.text(),
    "bytes": st.binary(),
    "boolean": st.booleans(),
    "int": st.integers(-(2**31), 2**31 - 1),
    "long": st.integers(-(2**63), 2**63 - 1),
}


def values_of(avro: Any, named: dict[str, st.SearchStrategy[Any]]) -> st.SearchStrategy[Any]:
    """Any value of a schema; a field that has a default may be left out."""
    match avro:
        case str():
            return named[avro]
        case ["null", given_type]:
            return st.none() | values_of(given_type, named)
        case {"logicalType": "timestamp-millis"}:
            return st.integers(-62_135_596_800_000, 253_402_300_799_999).map(from_millis)
        case {"type": "array", "items": items}:
            return st.lists(values_of(items, named), max_size=3)
        case _:
            fields = {field["name"]: values_of(field["type"], named) for field in avro["fields"]}
            optional = {field["name"] for field in avro["fields"] if "default" in field}
            named[avro["name"]] = record = st.fixed_dictionaries(
                {name: values for name, values in fields.items() if name not in optional},
                optional={name: values for name, values in fields.items() if name in optional},
            )
            return record


@pytest.mark.parametrize(
    "definition", [schema.definition for schema in released()], ids=lambda definition: definition["name"]
)
@given(data=st.data())
def test_bodies_are_those_of_fastavro(definition: dict[str, Any], data: st.DataObject) -> None:
    plain = data.draw(values_of(definition, dict(PRIMITIVES)))
    expected = io.BytesIO()
    fastavro.schemaless_writer(expected, fastavro.parse_schema(definition), plain)

    assert writer_of(definition)(plain) == expected.getvalue()


def test_a_field_without_value_and_default_is_refused_by_name() -> None:
    write = writer_of({"type": "record", "name": "R", "fields": [{"name": "mark", "type": "long"}]})

    with pytest.raises(KeyError, match="mark"):
        write({})


@pytest.mark.parametrize("avro", ["float", ["string", "null"], {"type": "map", "values": "string"}, "Unknown"])
def test_a_type_that_the_writer_does_not_know_is_refused(avro: Any) -> None:
    with pytest.raises(ValueError, match="no writer for the type"):
        writer_of({"type": "record", "name": "R", "fields": [{"name": "odd", "type": avro}]})
