"""Answers of the warehouse as files: CSV for spreadsheets, JSON lines for programs, Parquet for analytics."""

import csv
import json
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime
from decimal import Decimal
from math import isfinite
from typing import Any, TextIO

import pyarrow as pa
from pyarrow import parquet

from schemas.personal import MASK
from schemas.released import newest
from sinks.warehouse.query import Asked, types_of
from sinks.warehouse.tables import TABLES

# The beginning of a formula for a spreadsheet: https://owasp.org/www-community/attacks/CSV_Injection
# The wide ones are equal to the narrow ones where people write Chinese, Japanese or Korean. European spreadsheets split
# at semicolons even inside quotes, so that a cell begins behind each semicolon, and at each new line. Characters that
# cannot be seen may be left out when the file is read. Each begin is taken with the whole blank behind it, so that a
# long blank is read once.
_BEGIN = re.compile(
    '(?P<edge>^|[;\t\n])(?P<blank>[\\s"\x00-\x1f\u200b-\u200f\u2060\ufeff]*+)(?P<sign>[=+@\uff1d\uff0b\uff0d\uff20-]?)'
)
_EDGE, _QUOTED = re.compile("[\t\n]"), r"\g<0>'"
# A spreadsheet keeps fifteen digits of a number.
_LONG_NUMBER = re.compile(r"[0-9]{16,}")
_BYTES_OF_PEOPLE = frozenset({"key", "value"})


def with_masks(asked: Asked) -> Asked:
    """The same answer with personal columns masked."""
    hidden = personal_columns(asked.columns)
    masks = [masked if column in hidden else (lambda value: value) for column in asked.columns]
    return Asked(
        asked.columns,
        (
            [tuple(mask(value) for mask, value in zip(masks, row, strict=True)) for row in rows]
            for rows in asked.batches
        ),
    )


def write_csv(out: TextIO, asked: Asked, *, text: Callable[[Any], str], is_marked: bool = False) -> None:
    """Write a header and the rows; `text` makes the cells. A byte-order mark tells Excel that a file is UTF-8."""
    out.write("\ufeff" if is_marked else "")
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(map(text, asked.columns))
    for rows in asked.batches:
        writer.writerows(map(text, row) for row in rows)


def write_lines(out: TextIO, asked: Asked) -> None:
    """Write one JSON object a line."""
    for rows in asked.batches:
        out.writelines(json_text(dict(zip(asked.columns, row, strict=True))) + "\n" for row in rows)


def write_parquet(out: TextIO, asked: Asked, *, name: str, masks: bool) -> None:
    """Write the table or view `name` with its types; columns of a newer release, and masks, are text."""
    types = types_of(name)
    if masks:
        types |= {column: _type_of_mask(types[column]) for column in personal_columns(types)}
    schema = pa.schema([pa.field(column, types.get(column, pa.string())) for column in asked.columns])
    with parquet.ParquetWriter(out.buffer, schema) as writer:
        for rows in asked.batches:
            records = [_record(asked.columns, row, types) for row in rows]
            writer.write_table(pa.Table.from_pylist(records, schema=schema))


def _record(columns: tuple[str, ...], row: tuple[Any, ...], types: Mapping[str, Any]) -> dict[str, Any]:
    return {
        column: value if column in types or value is None else plain_text(value)
        for column, value in zip(columns, row, strict=True)
    }


def _type_of_mask(kind: pa.DataType) -> pa.DataType:
    return pa.list_(pa.string()) if pa.types.is_list(kind) else pa.string()


def csv_cell(value: Any, *, text_ids: bool = False) -> str:
    """The cell of a CSV file; an apostrophe precedes a text that a spreadsheet would run.

    With `text_ids` it also precedes numbers that a spreadsheet would cut. Lines end with a line feed: the csv module
    leaves a lone carriage return unquoted, and readers see a new row there.
    """
    text = plain_text(value).replace("\r\n", "\n").replace("\r", "\n")
    if text_ids and _LONG_NUMBER.fullmatch(text):
        return f"'{text}"
    return text if isinstance(value, int | float | Decimal) else _BEGIN.sub(_without_formula, text)


def _without_formula(begin: re.Match[str]) -> str:
    edge, blank, sign = begin.groups()
    if sign:
        return f"{edge}'{_EDGE.sub(_QUOTED, blank)}{sign}"
    return f"'{begin[0]}" if begin.start() == 0 and begin[0][:1] in ("\t", "\n") else begin[0]


def plain_text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, list | dict):
        return json_text(value)
    return str(_plain(value))


def json_text(value: Any, *, indent: int | None = None) -> str:
    """Strict JSON: a number without a place in JSON, such as NaN, becomes its name."""
    try:
        return json.dumps(value, default=_plain, ensure_ascii=False, indent=indent, allow_nan=False)
    except ValueError:
        return json.dumps(_finite(value), default=_plain, ensure_ascii=False, indent=indent, allow_nan=False)


def personal_columns(columns: Iterable[str]) -> frozenset[str]:
    """The columns that the schemas mark as personal."""
    marked = {name for table in TABLES for topic in table.topics if topic.schema for name in _marked(topic.schema)}
    return frozenset(columns) & (marked | _BYTES_OF_PEOPLE)


def masked(value: Any) -> Any:
    """A mask for a value; a missing value stays missing."""
    if isinstance(value, list):
        return [MASK] * len(value)
    return None if value is None else MASK


def _finite(value: Any) -> Any:
    match value:
        case float() if not isfinite(value):
            return str(value)
        case dict():
            return {name: _finite(part) for name, part in value.items()}
        case list():
            return [_finite(part) for part in value]
        case _:
            return value


def _marked(schema: str) -> Iterable[str]:
    waiting: list[Any] = [newest(schema).definition]
    while waiting:
        node = waiting.pop()
        if isinstance(node, list):
            waiting += node
        elif isinstance(node, dict):
            if node.get("pii"):
                yield node["name"]
            waiting += [node.get("fields"), node.get("items"), node.get("type")]


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
