"""Whether two versions of a schema read each other: FULL compatibility, in which only optional fields come and go.

https://docs.confluent.io/platform/current/schema-registry/fundamentals/schema-evolution.html#full-compatibility
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

Definition = Mapping[str, Any]
_Names = tuple[Mapping[str, Definition], Mapping[str, Definition]]


class _Difference(NamedTuple):
    """A difference at a path; `readable` when Avro still reads each side with the other."""

    text: str
    readable: bool = False


def breaks(older: Definition, newer: Definition) -> list[str]:
    """The differences that keep readers of a version from records of the other, each with the path of its field."""
    return [difference.text for difference in _differences(older, newer) if not difference.readable]


def retypes(older: Definition, newer: Definition) -> list[str]:
    """The changes of type that Avro reads and a warehouse's column does not, such as text to bytes."""
    return [difference.text for difference in _differences(older, newer) if difference.readable]


def _differences(older: Definition, newer: Definition) -> Iterator[_Difference]:
    return _of_records(older, newer, "", (_named(older), _named(newer)))


def _of_records(older: Definition, newer: Definition, path: str, names: _Names) -> Iterator[_Difference]:
    if older["name"] != newer["name"]:
        yield _Difference(f"{path.rstrip('.') or 'the record'}: was {older['name']} and is {newer['name']}")
        return
    before, after = ({field["name"]: field for field in version["fields"]} for version in (older, newer))
    for name in before | after:
        old, new = before.get(name), after.get(name)
        if old is not None and new is not None:
            yield from _of_types(old["type"], new["type"], f"{path}{name}", names)
        elif old is not None and "default" not in old:
            yield _Difference(f"{path}{name}: is gone and had no default, so that old readers need it")
        elif new is not None and "default" not in new:
            yield _Difference(f"{path}{name}: is new and has no default, so that old records lack it")


def _of_types(older: Any, newer: Any, path: str, names: _Names) -> Iterator[_Difference]:
    older, newer = (_resolved(avro, named) for avro, named in zip((older, newer), names, strict=True))
    if _read_as(older) != _read_as(newer):
        yield _Difference(f"{path}: was {_kind(older)} and is {_kind(newer)}")
    elif isinstance(older, list) and isinstance(newer, list):
        for old, new in zip(sorted(older, key=_read_as), sorted(newer, key=_read_as), strict=True):
            yield from _of_types(old, new, path, names)
    elif _kind(older) != _kind(newer):
        yield _Difference(f"{path}: was {_kind(older)} and is {_kind(newer)}", readable=True)
    else:
        yield from _inside(older, newer, path, names)


def _inside(older: Any, newer: Any, path: str, names: _Names) -> Iterator[_Difference]:
    """The differences inside two types of the same kind."""
    match older, newer:
        case {"type": "record"}, {"type": "record"}:
            yield from _of_records(older, newer, f"{path}.", names)
        case {"type": "array"}, {"type": "array"}:
            yield from _of_types(older["items"], newer["items"], f"{path}[]", names)
        case {"type": "map"}, {"type": "map"}:
            yield from _of_types(older["values"], newer["values"], f"{path}[]", names)
        case {"type": "enum"}, {"type": "enum"}:
            yield from _of_enums(older, newer, path)
        case {"type": "fixed"}, {"type": "fixed"} if older["size"] != newer["size"]:
            yield _Difference(f"{path}: was {older['size']} bytes and is {newer['size']}")


def _of_enums(older: Definition, newer: Definition, path: str) -> Iterator[_Difference]:
    gone = sorted(set(older["symbols"]) - set(newer["symbols"]))
    added = sorted(set(newer["symbols"]) - set(older["symbols"]))
    if gone and "default" not in newer:
        yield _Difference(f"{path}: has lost {', '.join(gone)} and has no default to read them as")
    if added and "default" not in older:
        yield _Difference(f"{path}: has gained {', '.join(added)}, which old readers have no default for")


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


def _read_as(avro: Any) -> str:
    """The same name for types that Avro reads as each other: text as bytes, unions in any order, logical types.

    https://avro.apache.org/docs/1.11.1/specification/#schema-resolution
    """
    match avro:
        case list():
            return " or ".join(sorted(map(_read_as, avro)))
        case {"name": str(kind)} | {"type": str(kind)}:
            return _read_as(kind)
        case "string":
            return "bytes"
        case _:
            return str(avro)


def _named(definition: Any) -> dict[str, Definition]:
    """The records, enums and fixed types inside a definition by their names."""
    named: dict[str, Definition] = {}
    waiting = [definition]
    while waiting:
        avro = waiting.pop()
        if isinstance(avro, list):
            waiting += avro
        elif isinstance(avro, dict):
            if avro.get("type") in ("record", "enum", "fixed"):
                named[avro["name"]] = avro
            waiting += [avro.get("fields"), avro.get("items"), avro.get("values"), avro.get("type")]
    return named
