"""Rows of the warehouse as text: JSON for programs, CSV that a spreadsheet can open without harm."""

import json
import re
from collections.abc import Iterable
from datetime import date, datetime
from decimal import Decimal
from math import isfinite
from typing import Any

from cli.lead_text import MASK
from schemas.registry import newest
from sinks.tables import TABLES

# What a spreadsheet takes for the beginning of a formula: https://owasp.org/www-community/attacks/CSV_Injection
# The wide ones are equal to the narrow ones where people write Chinese, Japanese or Korean. European spreadsheets split
# at semicolons and know nothing of a quote that began before one, so that a cell begins behind it, and at a new line.
_FORMULA = re.compile('(^|[;\t\n])(?=[\\s"]*[=+@\uff1d\uff0b\uff0d\uff20-])|^(?=[\t\n])')
# Of a longer number a spreadsheet keeps fifteen digits.
_LONG_NUMBER = re.compile(r"[0-9]{16,}")
_BYTES_OF_PEOPLE = frozenset({"key", "value"})


def csv_cell(value: Any, *, text_ids: bool = False) -> str:
    """The cell of a CSV file; what a spreadsheet would run has an apostrophe in front.

    With `text_ids` numbers have it too that a spreadsheet would cut. Lines end with a line feed: the csv module leaves
    a lone carriage return unquoted, and readers see a new row there.
    """
    text = plain_text(value).replace("\r\n", "\n").replace("\r", "\n")
    if text_ids and _LONG_NUMBER.fullmatch(text):
        return f"'{text}"
    return text if isinstance(value, int | float | Decimal) else _FORMULA.sub(r"\1'", text)


def plain_text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, list | dict):
        return json_text(value)
    return str(_plain(value))


def json_text(value: Any, *, indent: int | None = None) -> str:
    """Strict JSON: a number that JSON does not have is its name."""
    try:
        return json.dumps(value, default=_plain, ensure_ascii=False, indent=indent, allow_nan=False)
    except ValueError:
        return json.dumps(_finite(value), default=_plain, ensure_ascii=False, indent=indent, allow_nan=False)


def personal_columns(columns: Iterable[str]) -> frozenset[str]:
    """Those of the columns that are about a person, by what the schemas mark as such."""
    marked = {name for table in TABLES for topic in table.topics if topic.schema for name in _marked(topic.schema)}
    return frozenset(columns) & (marked | _BYTES_OF_PEOPLE)


def masked(value: Any) -> Any:
    """A mask for a value, and nothing for none, so that what is missing can still be seen."""
    if isinstance(value, list):
        return [MASK] * len(value)
    return None if value is None else MASK


def _finite(value: Any) -> Any:
    match value:
        case float() if not isfinite(value):
            return str(value)
        case dict():
            return {name: _finite(one) for name, one in value.items()}
        case list():
            return [_finite(one) for one in value]
        case _:
            return value


def _marked(schema: str) -> Iterable[str]:
    waiting: list[Any] = [newest(schema).definition]
    while waiting:
        one = waiting.pop()
        if isinstance(one, list):
            waiting += one
        elif isinstance(one, dict):
            if one.get("pii"):
                yield one["name"]
            waiting += [one.get("fields"), one.get("items"), one.get("type")]


def _plain(value: Any) -> Any:
    match value:
        case datetime() | date():
            return value.isoformat()
        case Decimal():
            return int(value) if value == value.to_integral_value() else float(value)
        case bytes():
            return value.decode(errors="backslashreplace")
        case _:
            return str(value)
