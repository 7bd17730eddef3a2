"""`leadstream warehouse …`: queries and exports, while the sink writes or not, and its upkeep."""

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from datetime import UTC
from functools import partial
from pathlib import Path
from typing import Any, TextIO

import click
from rich.measure import Measurement
from rich.table import Table

from cli import options
from cli.terminal import Terminal, cell, console, print_json, say, visible
from operations.deployment import Deployment, current_settings
from operations.reporting import OperationError
from operations.warehouse import by_topic, rebuild, require_vacuum, status_and_lag
from sinks.warehouse.delta.deletes import vacuum_now
from sinks.warehouse.export import (
    csv_cell,
    json_text,
    plain_text,
    with_masks,
    write_csv,
    write_lines,
    write_parquet,
)
from sinks.warehouse.query import Answer, Asked, ask, asking
from sinks.warehouse.rebuild import Comparison
from sinks.warehouse.tables import NAMES
from sinks.warehouse.views import VIEWS

_NAMES = sorted([*NAMES, *(view.name for view in VIEWS)])
_UNCUT_WIDTH = 1_000_000_000
_Write = Callable[[TextIO, Asked], None]
_CELLS: Mapping[str, Callable[[Any], str]] = {
    "safe": csv_cell,
    "text-ids": partial(csv_cell, text_ids=True),
    "raw": plain_text,
}
_cells = click.option(
    "--cells",
    type=click.Choice(list(_CELLS)),
    default="safe",
    show_default=True,
    help="Of CSV: safe in a spreadsheet, safe with long ids as text, or raw for programs.",
)


@click.group()
def command() -> None:
    """Query, export, check or rebuild the warehouse, LEADSTREAM_WAREHOUSE."""


@command.command("sql")
@click.argument("query")
@click.option("--format", "form", type=click.Choice(["table", "csv", "json"]), default="table", show_default=True)
@_cells
def run_sql(query: str, form: str, cells: str) -> None:
    """Run one SELECT over the tables and views of the warehouse.

    docs/warehouse.md lists them. The answer is as new as the sink's last commit. CSV is safe to open in a spreadsheet:
    text that would be a formula has an apostrophe in front, unless `--cells raw` is given for programs.

    \b
    Example:
      leadstream warehouse sql "select page_id, leads from lead_funnel"
      leadstream warehouse sql "select * from lead_answers" --format json
    """
    settings = current_settings()
    answer = ask(settings.warehouse, query, spill=settings.spill)
    match form:
        case "csv":
            _print_csv(answer, _CELLS[cells])
        case "json":
            _print_json(answer)
        case _:
            _print_table(answer)


@command.command("export")
@click.argument("name", type=click.Choice(_NAMES), metavar="NAME")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--mask-pii", is_flag=True, help="Mask PSIDs, answers, texts and bytes.")
@_cells
def export(name: str, file: Path, *, mask_pii: bool, cells: str) -> None:
    """Write a table or a view to FILE: .csv, .jsonl or .parquet.

    FILE must not exist yet; .jsonl has a row a line. CSV begins with the byte order mark by which Excel recognises
    UTF-8, unless its cells are raw.

    \b
    Example:
      leadstream warehouse export lead_answers answers.csv --mask-pii
      leadstream warehouse export leads leads.jsonl
      leadstream warehouse export leads leads.parquet
    """
    write = _writer(file.suffix, name, mask_pii=mask_pii, cells=cells)
    if write is None:
        raise OperationError(f"{file.name} ends neither in .csv nor in .jsonl nor in .parquet")
    if file.exists():
        raise OperationError(f"{file} exists already")
    part = file.with_name(f"{file.name}.part")
    settings = current_settings()
    try:
        with asking(settings.warehouse, f"select * from {name}", spill=settings.spill) as asked:
            rows = _write_part(part, write, with_masks(asked) if mask_pii else asked)
        part.rename(file)
    except OSError as fault:
        raise OperationError(f"{file} cannot be written: {fault.strerror or fault}") from None
    finally:
        part.unlink(missing_ok=True)
    say(f"{file}: {rows} rows, {file.stat().st_size} bytes")


def _writer(suffix: str, name: str, *, mask_pii: bool, cells: str) -> _Write | None:
    writers: dict[str, _Write] = {
        ".csv": partial(write_csv, text=_CELLS[cells], is_marked=cells != "raw"),
        ".jsonl": write_lines,
        ".parquet": partial(write_parquet, name=name, masks=mask_pii),
    }
    return writers.get(suffix)


def _write_part(part: Path, write: _Write, asked: Asked) -> int:
    """Write the answer to a file that only we can read, showing progress; gives the number of rows."""
    written = 0
    # A link that somebody has put there must not be followed.
    part.unlink(missing_ok=True)
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with (
        open(descriptor, "w", encoding="utf-8", newline="") as out,
        Terminal(kept=True).count("rows written") as on_written,
    ):

        def counted() -> Iterator[list[tuple[Any, ...]]]:
            nonlocal written
            for rows in asked.batches:
                yield rows
                written += len(rows)
                on_written(len(rows))

        write(out, Asked(asked.columns, counted()))
    return written


@command.command("status")
@options.as_json()
def status(*, as_json: bool) -> None:
    """Show the size, the last write and the lag of the tables.

    Without Kafka the lag is unknown, and the rest is shown.

    \b
    Example:
      leadstream warehouse status
      leadstream warehouse status --json
    """
    found, lag = status_and_lag(current_settings())
    if as_json:
        print_json(json_text({**asdict(found), "offsets": by_topic(found.offsets), "lag": lag}, indent=2))
        return
    shown = Table("Table", "Rows", "Bytes", "Files", "Written (UTC)")
    for table in found.tables:
        written_at = "" if table.written_at is None else f"{table.written_at.astimezone(UTC):%Y-%m-%d %H:%M:%S}"
        shown.add_row(table.name, *map(plain_text, (table.rows, table.bytes, table.files)), written_at)
    console().print(shown)
    if lag is None:
        say("Kafka does not answer: the lag is unknown")
    for topic, behind in (lag or {}).items():
        say(f"{topic}: {behind} offsets behind")


@command.command("vacuum")
@options.yes
def vacuum_warehouse(*, yes: bool) -> None:
    """Take deleted rows off the disk at once, with their log entries.

    For Delta Lake, with the sink stopped. The sink does the same a day later, because readers that began before find
    their files gone. PostgreSQL vacuums by itself.

    \b
    Example:
      leadstream warehouse vacuum
    """
    settings = current_settings()
    require_vacuum(settings)
    if not yes:
        click.confirm("Queries that began before will fail, and no former version can be read. Go on?", abort=True)
    say(f"{vacuum_now(settings.warehouse)} tables: no deleted row is left")


@command.command("rebuild")
@click.option("--swap", is_flag=True, help="Put the new warehouse in the place of the old one when they are equal.")
def rebuild_warehouse(*, swap: bool) -> None:
    """Fill a new warehouse from Kafka, and compare it with this one.

    It reads up to the offsets of this one and lies beside it: the directory NAME.rebuilt, or the schema NAME_rebuilt
    of the same PostgreSQL database. The sink must be stopped. Equal means that leads and followup_outcomes are, row by
    row; of the other tables Kafka may have lost rows to compaction and retention, and the old ones stay in NAME.before
    or NAME_before. Readers of PostgreSQL go on during a swap. Ends non-zero when the warehouses differ.

    \b
    Example:
      leadstream warehouse rebuild
      leadstream warehouse rebuild --swap
    """
    place = rebuild(Deployment.of(current_settings()), Terminal(kept=True), _print_comparison, swap=swap)
    say(f"Swapped. The old warehouse is {place}" if swap else f"Equal. The rebuilt warehouse is {place}")


def _print_comparison(table: Comparison) -> None:
    say(f"{table.table}: {table.rows} rows, {table.rebuilt} rebuilt{', equal' if table.same else ''}")


def _print_table(answer: Answer) -> None:
    table = Table()
    for column in answer.columns:
        table.add_column(cell(column))
    for row in answer.rows:
        table.add_row(*(cell(plain_text(value)) for value in row))
    out = console()
    if not out.is_terminal:
        # A pipe or a file has no width at which to cut.
        out.width = max(out.width, Measurement.get(out, out.options.update(max_width=_UNCUT_WIDTH), table).maximum)
    out.print(table)
    say(f"{len(answer.rows)} rows")


def _print_csv(answer: Answer, text: Callable[[Any], str]) -> None:
    def shown(value: Any) -> str:
        return visible(text(value)) if sys.stdout.isatty() else text(value)

    write_csv(sys.stdout, Asked(answer.columns, iter([list(answer.rows)])), text=shown)


def _print_json(answer: Answer) -> None:
    duplicates = sorted({column for column in answer.columns if answer.columns.count(column) > 1})
    if duplicates:
        raise OperationError(f"{', '.join(duplicates)}: duplicate column; give each its own name with `as`")
    print_json(json_text([dict(zip(answer.columns, row, strict=True)) for row in answer.rows], indent=2))
