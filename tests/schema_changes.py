"""Changes of a schema, by what the check says of each: our own, Avro's and the registries' verdicts are compared."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from schemas.released import newest

LEAD = newest("lead").definition


class Change(NamedTuple):
    older: dict[str, Any]
    newer: dict[str, Any]


def _lead(*changed: Mapping[str, Any], without: str = "") -> Change:
    names = {schema["name"] for schema in changed} | {without}
    return Change(
        LEAD, {**LEAD, "fields": [*(field for field in LEAD["fields"] if field["name"] not in names), *changed]}
    )


def _answers(*fields: Mapping[str, Any], name: str = "Answer") -> dict[str, Any]:
    items = {"type": "record", "name": name, "fields": list(fields)}
    return {"name": "answers", "type": {"type": "array", "items": items}, "default": []}


def _paint(*changed: Mapping[str, Any]) -> Change:
    """Of a record with the types that no released schema has."""
    types = {
        "colour": {"type": "enum", "name": "Colour", "symbols": ["red", "green"]},
        "key": {"type": "fixed", "name": "Key", "size": 16},
        "counts": {"type": "map", "values": "int"},
    }
    older, newer = ({**types, **{field["name"]: field["type"] for field in fields}} for fields in ((), changed))
    return Change(_record(older), _record(newer))


def _record(types: Mapping[str, Any]) -> dict[str, Any]:
    fields = [{"name": name, "type": avro} for name, avro in types.items()]
    return {"type": "record", "name": "Paint", "fields": fields}


def _colour(*symbols: str, **more: str) -> dict[str, Any]:
    return {"name": "colour", "type": {"type": "enum", "name": "Colour", "symbols": list(symbols), **more}}


QUESTION, ANSWER = {"name": "question", "type": "string"}, {"name": "answer", "type": "string"}

BREAKING = {
    "score: is new and has no default": _lead({"name": "score", "type": "int"}),
    "note: is new and has no default": _lead({"name": "note", "type": ["null", "string"]}),
    "revision: is gone and had no default": _lead(without="revision"),
    "revision: was int and is string": _lead({"name": "revision", "type": "string"}),
    "revision: was int and is long": _lead({"name": "revision", "type": "long"}),
    "revision: was int and is null or int": _lead({"name": "revision", "type": ["null", "int"]}),
    "summary_text: was null or string and is string": _lead({"name": "summary_text", "type": "string"}),
    "summary_text: was null or string and is null or string or int": _lead(
        {"name": "summary_text", "type": ["null", "string", "int"], "default": None}
    ),
    "outcome: was string and is Outcome": _lead(
        {"name": "outcome", "type": {"type": "enum", "name": "Outcome", "symbols": ["complete", "incomplete"]}}
    ),
    "answers[].answer: is gone and had no default": _lead(_answers(QUESTION)),
    "answers[].score: is new and has no default": _lead(_answers(QUESTION, ANSWER, {"name": "score", "type": "int"})),
    "answers[]: was Answer and is Reply": _lead(_answers(QUESTION, ANSWER, name="Reply")),
    "the record: was Lead and is Prospect": Change(LEAD, {**LEAD, "name": "Prospect"}),
    "colour: has lost green": _paint(_colour("red")),
    "colour: has gained blue": _paint(_colour("red", "green", "blue")),
    "colour: has lost green and has no default": Change(
        {
            "type": "record",
            "name": "Paint",
            "fields": [
                {**_colour("red", "green"), "name": "hue", "default": "red"},
                {"name": "colour", "type": "Colour"},
            ],
        },
        _record({"colour": _colour("red")["type"]}),
    ),
    "key: was 16 bytes and is 8": _paint({"name": "key", "type": {"type": "fixed", "name": "Key", "size": 8}}),
    "counts[]: was int and is long": _paint({"name": "counts", "type": {"type": "map", "values": "long"}}),
    "counts: was map and is array": _paint({"name": "counts", "type": {"type": "array", "items": "int"}}),
}
SAFE = {
    "a new field with a default": _lead({"name": "score", "type": ["null", "int"], "default": None}),
    "a field with a default less": _lead(without="summary_text"),
    "another default": _lead({"name": "answers_source", "type": "string", "default": "summary"}),
    "a default less": _lead({"name": "answers_source", "type": "string"}),
    "another order": Change(LEAD, {**LEAD, "fields": LEAD["fields"][::-1]}),
    "another order of a union": _lead({"name": "summary_text", "type": ["string", "null"], "default": ""}),
    "another doc": Change(LEAD, {**LEAD, "doc": "New words."}),
    "a field inside with a default": _lead(_answers(QUESTION, ANSWER, {"name": "n", "type": "int", "default": 0})),
    "symbols that both sides can read as a default": Change(
        _record({"colour": _colour("red", "green", default="red")["type"]}),
        _record({"colour": _colour("red", "blue", default="red")["type"]}),
    ),
    "another order of symbols": _paint(_colour("green", "red")),
}
RETYPED = {
    "updated_at: was timestamp-millis and is long": _lead({"name": "updated_at", "type": "long"}),
    "updated_at: was timestamp-millis and is timestamp-micros": _lead(
        {"name": "updated_at", "type": {"type": "long", "logicalType": "timestamp-micros"}}
    ),
    "lead_id: was string and is uuid": _lead({"name": "lead_id", "type": {"type": "string", "logicalType": "uuid"}}),
    "answers[].answer: was string and is bytes": _lead(_answers(QUESTION, {"name": "answer", "type": "bytes"})),
}
CHANGES = {**BREAKING, **SAFE, **RETYPED}
