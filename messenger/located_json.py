"""JSON text → values with their line and key, for files that people write by hand."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\],:]|[^\s{}\[\],:"]+')
_DEPTH_MAX = 100
# Python reads these as numbers; JSON has none of them.
_NO_JSON = ("NaN", "Infinity", "-Infinity")


class BadJson(ValueError):
    """The text is not JSON, or is ambiguous; `line` counts from 1."""

    def __init__(self, line: int, what: str) -> None:
        super().__init__(what)
        self.line = line
        self.what = what


@dataclass(frozen=True, slots=True)
class Located:
    """One value: an object as `dict[str, Located]`, a list as `list[Located]`, anything else as Python has it.

    `key` is its path, as in `message.buttons[0].title`; empty for the whole. A name that is not plain is in it as JSON,
    so that it can be printed on one line.
    """

    value: Any
    line: int
    key: str

    @property
    def fields(self) -> "dict[str, Located]":
        """Of an object; empty for anything else."""
        return self.value if isinstance(self.value, dict) else {}

    @property
    def items(self) -> "list[Located]":
        """Of a list; empty for anything else."""
        return self.value if isinstance(self.value, list) else []


class _Token(NamedTuple):
    text: str
    line: int


def read_json(text: str) -> Located:
    """The text as a value. Raises `BadJson`, also for a duplicate key."""
    try:
        json.loads(text, parse_int=str, parse_float=str)
    except json.JSONDecodeError as fault:
        raise BadJson(fault.lineno, f"this is not JSON: {fault.msg}") from None
    except RecursionError:
        raise BadJson(1, f"deeper than {_DEPTH_MAX} levels") from None
    # The json module has checked the grammar, so the tokens only give positions.
    return _value(_tokens(text), "", 0)


def _tokens(text: str) -> Iterator[_Token]:
    line, at = 1, 0
    for match in _TOKEN.finditer(text):
        line += text.count("\n", at, match.start())
        at = match.start()
        yield _Token(match[0], line)


def _value(tokens: Iterator[_Token], key: str, depth: int, token: _Token | None = None) -> Located:
    text, line = token or next(tokens)
    if depth > _DEPTH_MAX:
        raise BadJson(line, f"deeper than {_DEPTH_MAX} levels")
    if text == "{":
        return Located(_object(tokens, key, depth), line, key)
    if text == "[":
        return Located(_list(tokens, key, depth), line, key)
    return Located(_scalar(text, line), line, key)


def _scalar(text: str, line: int) -> Any:
    if text in _NO_JSON:
        raise BadJson(line, f"this is not JSON: {text}")
    try:
        return json.loads(text)
    except ValueError:
        raise BadJson(line, "a number is too long to read") from None


def _object(tokens: Iterator[_Token], key: str, depth: int) -> dict[str, Located]:
    fields: dict[str, Located] = {}
    while (token := next(tokens)).text != "}":
        if token.text == ",":
            continue
        name = json.loads(token.text)
        if name in fields:
            raise BadJson(token.line, f"duplicate key {name!r}")
        next(tokens)
        fields[name] = _value(tokens, _path(key, name), depth + 1)
    return fields


def _path(key: str, name: str) -> str:
    step = name if name.isidentifier() and name.isascii() else json.dumps(name)
    return f"{key}.{step}" if key else step


def _list(tokens: Iterator[_Token], key: str, depth: int) -> list[Located]:
    items: list[Located] = []
    while (token := next(tokens)).text != "]":
        if token.text != ",":
            items.append(_value(tokens, f"{key}[{len(items)}]", depth + 1, token))
    return items
