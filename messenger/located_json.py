"""JSON text → values that know their line and their key, for files that people write by hand."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\],:]|[^\s{}\[\],:"]+')
_DEPTH_MAX = 100
# What Python reads and writes as numbers, and JSON does not know.
_NO_JSON = ("NaN", "Infinity", "-Infinity")


class BadJson(ValueError):
    """The text is not JSON, or means two things; `line` counts from 1."""

    def __init__(self, line: int, what: str) -> None:
        super().__init__(what)
        self.line = line
        self.what = what


@dataclass(frozen=True, slots=True)
class Located:
    """One value: an object as `dict[str, Located]`, a list as `list[Located]`, anything else as Python has it.

    `key` is the way to it, as in `message.buttons[0].title`; empty for the whole. What is no plain name stands in it as
    JSON has it, so that it can be printed on one line.
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
    """The whole as a value. Raises `BadJson`, also when a key stands twice in one object."""
    try:
        json.loads(text, parse_int=str, parse_float=str)
    except json.JSONDecodeError as fault:
        raise BadJson(fault.lineno, f"this is not JSON: {fault.msg}") from None
    except RecursionError:
        raise BadJson(1, f"deeper than {_DEPTH_MAX} levels") from None
    # What json has accepted needs no second grammar: the tokens only say where things stand.
    return _value(_tokens(text), "", 0)


def _tokens(text: str) -> Iterator[_Token]:
    line, at = 1, 0
    for found in _TOKEN.finditer(text):
        line += text.count("\n", at, found.start())
        at = found.start()
        yield _Token(found[0], line)


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
        raise BadJson(line, "a number too long to be read") from None


def _object(tokens: Iterator[_Token], key: str, depth: int) -> dict[str, Located]:
    found: dict[str, Located] = {}
    while (token := next(tokens)).text != "}":
        if token.text == ",":
            continue
        name = json.loads(token.text)
        if name in found:
            raise BadJson(token.line, f"{name!r} stands here twice")
        next(tokens)
        found[name] = _value(tokens, _way(key, name), depth + 1)
    return found


def _way(key: str, name: str) -> str:
    step = name if name.isidentifier() and name.isascii() else json.dumps(name)
    return f"{key}.{step}" if key else step


def _list(tokens: Iterator[_Token], key: str, depth: int) -> list[Located]:
    found: list[Located] = []
    while (token := next(tokens)).text != "]":
        if token.text != ",":
            found.append(_value(tokens, f"{key}[{len(found)}]", depth + 1, token))
    return found
