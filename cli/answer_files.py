"""Answers of the warehouse as files: CSV for spreadsheets, JSON lines for programs, Parquet for analytics."""

import csv
from collections.abc import Callable, Mapping
from typing import Any, TextIO

import pyarrow as pa
from pyarrow import parquet

from cli.answer_text import json_text, masked, personal_columns, plain_text
from sinks.query import Asked, types_of


def with_masks(asked: Asked) -> Asked:
    """The same answer with masks for what is personal."""
    hidden = personal_columns(asked.columns)
    masks = [masked if one in hidden else (lambda value: value) for one in asked.columns]
    return Asked(
        asked.columns,
        ([tuple(mask(one) for mask, one in zip(masks, row, strict=True)) for row in rows] for rows in asked.batches),
    )


def write_csv(out: TextIO, asked: Asked, *, text: Callable[[Any], str]) -> None:
    """With a header; `text` makes the cells."""
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(map(text, asked.columns))
    for rows in asked.batches:
        writer.writerows(map(text, row) for row in rows)


def write_marked_csv(out: TextIO, asked: Asked, *, text: Callable[[Any], str]) -> None:
    """`write_csv` for files: Excel knows by the mark at the beginning that it is UTF-8."""
    out.write("\ufeff")
    write_csv(out, asked, text=text)


def write_lines(out: TextIO, asked: Asked) -> None:
    """An object a line."""
    for rows in asked.batches:
        out.writelines(json_text(dict(zip(asked.columns, row, strict=True))) + "\n" for row in rows)


def write_parquet(out: TextIO, asked: Asked, *, name: str, masks: bool) -> None:
    """The table or view `name` with its types; what a newer release has added, and every mask, is text."""
    types = types_of(name)
    if masks:
        types |= {one: _type_of_mask(types[one]) for one in personal_columns(types)}
    schema = pa.schema([pa.field(one, types.get(one, pa.string())) for one in asked.columns])
    with parquet.ParquetWriter(out.buffer, schema) as writer:
        for rows in asked.batches:
            records = [_record(asked.columns, row, types) for row in rows]
            writer.write_table(pa.Table.from_pylist(records, schema=schema))


def _record(columns: tuple[str, ...], row: tuple[Any, ...], types: Mapping[str, Any]) -> dict[str, Any]:
    return {
        one: value if one in types or value is None else plain_text(value)
        for one, value in zip(columns, row, strict=True)
    }


def _type_of_mask(kind: pa.DataType) -> pa.DataType:
    return pa.list_(pa.string()) if pa.types.is_list(kind) else pa.string()
