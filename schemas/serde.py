"""Records ↔ Avro bodies, by functions that are made once from the schema.

fastavro knows dicts alone and tries a value against every branch of a union, but most of our fields are null or one
type. A test compares both byte for byte. https://avro.apache.org/docs/1.12.0/specification/#binary-encoding
"""

from collections.abc import Callable, Collection, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from runtime.clock import from_millis, to_millis

Write = Callable[[Any], bytes]
Read = Callable[[bytes, int], tuple[Any, int]]

_NULL, _PRESENT = 0, 2
_END = b"\x00"
# What two bytes hold: those of a number that goes on, and one or two at its end.
_TWO_BYTES = 1 << 14
_PAIRS = tuple(bytes([number & 127 | 128, number >> 7 | 128]) for number in range(_TWO_BYTES))
_ENDS = tuple(bytes([number] if number < 128 else [number & 127 | 128, number >> 7]) for number in range(_TWO_BYTES))
_SHIFTS = range(7, 77, 7)
_NOTHING: Mapping[str, Any] = MappingProxyType({})


class Serde(NamedTuple):
    """Writes a value as bytes; reads one at an offset of a body, and gives it with the offset behind it.

    Reading raises `ValueError`, `IndexError` or `OverflowError` for what is not a value.
    """

    write: Write
    read: Read


class _Step(NamedTuple):
    """An attribute of a record, and what comes before it: the bytes of fields that are constant, and how to read
    them."""

    before: bytes
    skipped: tuple[Read, ...]
    name: str
    serde: Serde


def serde_of(
    definition: Mapping[str, Any],
    record: Callable[..., Any],
    names: Collection[str],
    nested: Mapping[str, type],
    constants: Mapping[str, Any] = _NOTHING,
) -> Serde:
    """The serde of a class with these attributes; `nested` has the classes of the records inside, by Avro's name.

    A field that is no attribute is written as its constant, else as its default, and read over. Raises `ValueError`
    for a field without either, for a nested class with other fields, and for other types than records, arrays, times
    and "null or one type".
    """
    named: dict[str, Serde] = {}
    steps: list[_Step] = []
    before, skipped = b"", list[Read]()
    for field in definition["fields"]:
        name, serde = field["name"], _serde(field["type"], nested, named)
        if name in names:
            steps.append(_Step(before, tuple(skipped), name, serde))
            before, skipped = b"", []
        elif name in constants or "default" in field:
            before += serde.write(constants.get(name, field.get("default")))
            skipped.append(serde.read)
        else:
            raise ValueError(f"{name} is no attribute and has no default")
    return Serde(_write_steps(steps, before), _read_steps(steps, before, tuple(skipped), record))


def _write_steps(steps: list[_Step], last: bytes) -> Write:
    fields = [(step.before, step.name, step.serde.write) for step in steps]

    def write(record: Any) -> bytes:
        parts = [before + write_field(getattr(record, name)) for before, name, write_field in fields]
        return b"".join([*parts, last])

    return write


def _read_steps(steps: list[_Step], last: bytes, skipped_last: tuple[Read, ...], record: Callable[..., Any]) -> Read:
    fields = [(step.before, step.skipped, step.name, step.serde.read) for step in steps]

    def read(body: bytes, at: int) -> tuple[Any, int]:
        values = {}
        for before, skipped, name, read_field in fields:
            if skipped:
                at = _skip(body, at, before, skipped)
            values[name], at = read_field(body, at)
        return record(**values), _skip(body, at, last, skipped_last)

    return read


def _skip(body: bytes, at: int, usual: bytes, fields: tuple[Read, ...]) -> int:
    """The offset behind fields that are of no use; nearly always they have the `usual` bytes."""
    if body.startswith(usual, at):
        return at + len(usual)
    for read in fields:
        _, at = read(body, at)
    return at


def _serde(avro: Any, nested: Mapping[str, type], named: dict[str, Serde]) -> Serde:
    match avro:
        case str() if avro in _PRIMITIVES:
            return _PRIMITIVES[avro]
        case str() if avro in named:
            return named[avro]
        case ["null", inner]:
            return _optional(_serde(inner, nested, named))
        case {"type": "array", "items": items}:
            return _array(_serde(items, nested, named))
        case {"type": "long", "logicalType": "timestamp-millis"}:
            return Serde(_write_moment, _read_moment)
        case {"type": "record", "name": name, "fields": fields} if name in nested:
            named[name] = serde = _record(fields, nested[name], nested, named)
            return serde
    raise ValueError(f"no serde for the type {avro}")


def _record(fields: list[Mapping[str, Any]], record: Any, nested: Mapping[str, type], named: dict[str, Serde]) -> Serde:
    """A nested record, whose class has exactly the fields of the schema."""
    names = tuple(field["name"] for field in fields)
    if record.__match_args__ != names:
        raise ValueError(f"{record.__name__} has the fields {record.__match_args__}, its schema {names}")
    serdes = [_serde(field["type"], nested, named) for field in fields]
    writes, reads = list(zip(names, (serde.write for serde in serdes), strict=True)), [serde.read for serde in serdes]

    def write(value: Any) -> bytes:
        return b"".join([write_field(getattr(value, name)) for name, write_field in writes])

    def read(body: bytes, at: int) -> tuple[Any, int]:
        values = []
        for read_field in reads:
            value, at = read_field(body, at)
            values.append(value)
        return record(*values), at

    return Serde(write, read)


def _optional(inner: Serde) -> Serde:
    write_inner, read_inner = inner
    null, present = bytes([_NULL]), bytes([_PRESENT])

    def write(value: Any) -> bytes:
        return null if value is None else present + write_inner(value)

    def read(body: bytes, at: int) -> tuple[Any, int]:
        branch, at = body[at], at + 1
        if branch == _NULL:
            return None, at
        if branch == _PRESENT:
            return read_inner(body, at)
        raise ValueError("a branch that the union does not have")

    return Serde(write, read)


def _array(item: Serde) -> Serde:
    write_item, read_item = item

    def write(items: Collection[Any]) -> bytes:
        if not items:
            return _END
        return b"".join([_write_long(len(items)), *map(write_item, items), _END])

    def read(body: bytes, at: int) -> tuple[tuple[Any, ...], int]:
        items = []
        count, at = _read_long(body, at)
        while count:
            if count < 0:
                # The size of the block follows, for readers that skip it.
                _, at = _read_long(body, at)
            for _ in range(abs(count)):
                value, at = read_item(body, at)
                items.append(value)
            count, at = _read_long(body, at)
        return tuple(items), at

    return Serde(write, read)


def _write_long(number: int) -> bytes:
    # Zigzag, then seven bits a byte.
    rest = (number << 1) ^ (number >> 63)
    encoded = b""
    while rest >= _TWO_BYTES:
        encoded += _PAIRS[rest % _TWO_BYTES]
        rest //= _TWO_BYTES
    return encoded + _ENDS[rest]


def _read_long(body: bytes, at: int) -> tuple[int, int]:
    byte = body[at]
    number = byte & 127
    for shift in _SHIFTS:
        at += 1
        if byte < 128:
            return (number >> 1) ^ -(number & 1), at
        byte = body[at]
        number |= (byte & 127) << shift
    raise ValueError("a number of more than 64 bits")


def _write_bytes(value: bytes) -> bytes:
    length = len(value)
    return (_ENDS[2 * length] if length < _TWO_BYTES // 2 else _write_long(length)) + value


def _read_bytes(body: bytes, at: int) -> tuple[bytes, int]:
    length, at = _read_long(body, at)
    end = at + length
    if length < 0 or end > len(body):
        raise ValueError("a length beyond the body")
    return body[at:end], end


def _write_string(value: str) -> bytes:
    return _write_bytes(value.encode())


def _read_string(body: bytes, at: int) -> tuple[str, int]:
    value, at = _read_bytes(body, at)
    return value.decode(), at


def _write_boolean(value: bool) -> bytes:  # noqa: FBT001 - a value, not an option
    return b"\x01" if value else b"\x00"


def _read_boolean(body: bytes, at: int) -> tuple[bool, int]:
    return body[at] != 0, at + 1


def _write_moment(value: Any) -> bytes:
    return _write_long(to_millis(value))


def _read_moment(body: bytes, at: int) -> tuple[Any, int]:
    millis, at = _read_long(body, at)
    return from_millis(millis), at


STRING = Serde(_write_string, _read_string)
_LONG = Serde(_write_long, _read_long)
_PRIMITIVES: Mapping[str, Serde] = {
    "string": STRING,
    "bytes": Serde(_write_bytes, _read_bytes),
    "boolean": Serde(_write_boolean, _read_boolean),
    "int": _LONG,
    "long": _LONG,
}
