"""A version that another cannot read or write is refused, and the field is named."""

from collections.abc import Mapping
from typing import Any

import pytest
from avro.compatibility import ReaderWriterCompatibilityChecker, SchemaCompatibilityType
from avro.schema import make_avsc_object

from schemas.compatibility import breaks
from schemas.registry import newest

LEAD = newest("lead").definition


def _lead(*changed: Mapping[str, Any], without: str = "") -> dict[str, Any]:
    names = {one["name"] for one in changed} | {without}
    return {**LEAD, "fields": [*(one for one in LEAD["fields"] if one["name"] not in names), *changed]}


def _answers(*fields: Mapping[str, Any]) -> dict[str, Any]:
    items = {"type": "record", "name": "Answer", "fields": list(fields)}
    return {"name": "answers", "type": {"type": "array", "items": items}, "default": []}


TEXT = {"name": "question", "type": "string"}, {"name": "answer", "type": "string"}

BREAKING = {
    "score: is new and has no default": _lead({"name": "score", "type": "int"}),
    "revision: is gone and had no default": _lead(without="revision"),
    "revision: was int and is string": _lead({"name": "revision", "type": "string"}),
    "revision: was int and is long": _lead({"name": "revision", "type": "long"}),
    "revision: was int and is null or int": _lead({"name": "revision", "type": ["null", "int"]}),
    "updated_at: was timestamp-millis and is long": _lead({"name": "updated_at", "type": "long"}),
    "answers[].answer: was string and is bytes": _lead(_answers(TEXT[0], {"name": "answer", "type": "bytes"})),
    "answers[].answer: is gone and had no default": _lead(_answers(TEXT[0])),
    "answers[].score: is new and has no default": _lead(_answers(*TEXT, {"name": "score", "type": "int"})),
    "the record: was Lead and is Prospect": {**LEAD, "name": "Prospect"},
}
SAFE = {
    "a new field with a default": _lead({"name": "score", "type": ["null", "int"], "default": None}),
    "a field with a default less": _lead(without="summary_text"),
    "another order": {**LEAD, "fields": LEAD["fields"][::-1]},
    "another doc": {**LEAD, "doc": "New words."},
    "a field inside with a default": _lead(_answers(*TEXT, {"name": "n", "type": "int", "default": 0})),
}


@pytest.mark.parametrize(("saying", "changed"), BREAKING.items(), ids=BREAKING)
def test_a_change_that_breaks_is_refused_by_the_path_of_its_field(saying: str, changed: dict[str, Any]) -> None:
    [fault] = breaks(LEAD, changed)

    assert fault.startswith(saying)


@pytest.mark.parametrize("changed", SAFE.values(), ids=SAFE)
def test_a_change_that_breaks_nothing_passes(changed: dict[str, Any]) -> None:
    assert breaks(LEAD, changed) == []
    assert breaks(changed, LEAD) == []


@pytest.mark.parametrize("changed", [*BREAKING.values(), *SAFE.values()], ids=[*BREAKING, *SAFE])
def test_avros_own_checker_refuses_no_change_that_passes_here(changed: dict[str, Any]) -> None:
    if not breaks(LEAD, changed):
        assert _read_each_other(LEAD, changed)


def _read_each_other(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    first, second = make_avsc_object(dict(one)), make_avsc_object(dict(other))
    checker = ReaderWriterCompatibilityChecker()
    found = [checker.get_compatibility(reader=r, writer=w) for r, w in ((first, second), (second, first))]
    return all(each.compatibility is SchemaCompatibilityType.compatible for each in found)
