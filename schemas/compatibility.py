"""Whether two versions of a schema read each other: FULL compatibility, where only optional fields may come and go.

https://docs.confluent.io/platform/current/schema-registry/fundamentals/schema-evolution.html#full-compatibility
"""

from collections.abc import Iterator, Mapping
from typing import Any

Definition = Mapping[str, Any]
_Names = tuple[Mapping[str, Definition], Mapping[str, Definition]]


def breaks(older: Definition, newer: Definition) -> list[str]:
    """What keeps readers of one version from the records of the other, each with the path of its field.

    A type that only one side could read by promotion is a break too: the warehouse's columns keep their types.
    """
    return list(_record_breaks(older, newer, "", (_named(older), _named(newer))))


def _record_breaks(older: Definition, newer: Definition, path: str, names: _Names) -> Iterator[str]:
    if older["name"] != newer["name"]:
        yield f"{path.rstrip('.') or 'the record'}: was {older['name']} and is {newer['name']}"
        return
    before, after = ({field["name"]: field for field in one["fields"]} for one in (older, newer))
    for name in before | after:
        old, new = before.get(name), after.get(name)
        if old is not None and new is not None:
            yield from _type_breaks(old["type"], new["type"], f"{path}{name}", names)
        elif old is not None and "default" not in old:
            yield f"{path}{name}: is gone and had no default, so that old readers need it"
        elif new is not None and "default" not in new:
            yield f"{path}{name}: is new and has no default, so that old records lack it"


def _type_breaks(older: Any, newer: Any, path: str, names: _Names) -> Iterator[str]:
    older, newer = (_resolved(one, named) for one, named in zip((older, newer), names, strict=True))
    match older, newer:
        case {"type": "record"}, {"type": "record"}:
            yield from _record_breaks(older, newer, f"{path}.", names)
        case {"type": "array"}, {"type": "array"}:
            yield from _type_breaks(older["items"], newer["items"], f"{path}[]", names)
        case list(), list() if [_kind(one) for one in older] == [_kind(one) for one in newer]:
            for old, new in zip(older, newer, strict=True):
                yield from _type_breaks(old, new, path, names)
        case _ if _kind(older) != _kind(newer):
            yield f"{path}: was {_kind(older)} and is {_kind(newer)}"


def _resolved(avro: Any, named: Mapping[str, Definition]) -> Any:
    return named.get(avro, avro) if isinstance(avro, str) else avro


def _kind(avro: Any) -> str:
    match avro:
        case list():
            return " or ".join(map(_kind, avro))
        case {"logicalType": str(kind)} | {"name": str(kind)} | {"type": str(kind)}:
            return kind
        case _:
            return str(avro)


def _named(definition: Any) -> dict[str, Definition]:
    """The records inside a definition by their names."""
    found: dict[str, Definition] = {}
    waiting = [definition]
    while waiting:
        one = waiting.pop()
        if isinstance(one, list):
            waiting += one
        elif isinstance(one, dict):
            if one.get("type") == "record":
                found[one["name"]] = one
            waiting += [one.get("fields"), one.get("items"), one.get("type")]
    return found
