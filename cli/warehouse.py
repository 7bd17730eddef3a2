"""`leadstream warehouse …`: questions to the warehouse, while the sink writes to it or not."""

import asyncio
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from datetime import UTC
from functools import partial
from pathlib import Path
from typing import Any, TextIO

import click
from aiokafka import TopicPartition
from aiokafka.errors import KafkaConnectionError
from rich.console import Console
from rich.measure import Measurement
from rich.progress import MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from cli.terminal import cell, say, visible
from operations.broker import broker_of, kafka_answers, known_broker
from operations.deployment import schema_ids
from operations.environment import current_settings
from runtime import kafka
from runtime.cluster import Cluster
from runtime.consumer_groups import sink_is_running
from runtime.settings import Settings
from schemas.codec import Ids
from sinks.consume import Unusable
from sinks.warehouse.delta.deletes import vacuum_now
from sinks.warehouse.export import (
    csv_cell,
    json_text,
    plain_text,
    with_masks,
    write_csv,
    write_lines,
    write_marked_csv,
    write_parquet,
)
from sinks.warehouse.postgres.connection import is_server
from sinks.warehouse.query import Answer, Asked, BadQuery, ask, asking
from sinks.warehouse.rebuild import Replacement, compare, fill, replacement_of
from sinks.warehouse.status import Status, status_of
from sinks.warehouse.tables import NAMES, tables_by_topic
from sinks.warehouse.views import VIEWS

_NAMES = sorted([*NAMES, *(view.name for view in VIEWS)])
# Wider than any table.
_UNCUT = 1_000_000_000
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
    help="Of CSV: safe in a spreadsheet, the same with long ids as text, or as they are, for programs.",
)


@click.group()
def command() -> None:
    """Query the warehouse, LEADSTREAM_WAREHOUSE, and look after it."""


@command.command("sql")
@click.argument("query")
@click.option("--format", "form", type=click.Choice(["table", "csv", "json"]), default="table", show_default=True)
@_cells
def run_sql(query: str, form: str, cells: str) -> None:
    """Run one SELECT over the tables and views that docs/warehouse.md lists.

    The answer is as new as the sink's last commit. CSV is safe to open in a spreadsheet: text that would be a formula
    has an apostrophe in front, unless programs read it and `--cells raw` is given.

    \b
    Example:
      leadstream warehouse sql "select page_id, sum(leads), sum(complete) from lead_funnel group by 1"
      leadstream warehouse sql "select lead_id, question, answer from lead_answers" --format json
    """
    try:
        answer = ask(current_settings().warehouse, query)
    except BadQuery as fault:
        raise click.ClickException(str(fault)) from None
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
@click.option("--mask-pii", is_flag=True, help="Put a mask for PSIDs, answers, texts and bytes.")
@_cells
def export(name: str, file: Path, *, mask_pii: bool, cells: str) -> None:
    """Write a table or a view to FILE, which must not be there yet: .csv, .parquet, or .jsonl with a row a line.

    CSV begins with the mark by which Excel knows UTF-8, unless its cells are raw.

    \b
    Example:
      leadstream warehouse export lead_answers answers.csv --mask-pii
      leadstream warehouse export leads leads.jsonl
      leadstream warehouse export leads leads.parquet
    """
    write = _writer(file.suffix, name, mask_pii=mask_pii, cells=cells)
    if write is None:
        raise click.ClickException(f"{file.name} ends neither in .csv nor in .jsonl nor in .parquet")
    if file.exists():
        raise click.ClickException(f"{file} is there already")
    part = file.with_name(f"{file.name}.part")
    try:
        with asking(current_settings().warehouse, f"select * from {name}") as asked:
            rows = _write_part(part, write, with_masks(asked) if mask_pii else asked)
        part.rename(file)
    except BadQuery as fault:
        raise click.ClickException(str(fault)) from None
    except OSError as fault:
        raise click.ClickException(f"{file} cannot be written: {fault.strerror or fault}") from None
    finally:
        part.unlink(missing_ok=True)
    say(f"{file}: {rows} rows, {file.stat().st_size} bytes")


def _writer(suffix: str, name: str, *, mask_pii: bool, cells: str) -> _Write | None:
    writers: dict[str, _Write] = {
        ".csv": partial(write_csv if cells == "raw" else write_marked_csv, text=_CELLS[cells]),
        ".jsonl": write_lines,
        ".parquet": partial(write_parquet, name=name, masks=mask_pii),
    }
    return writers.get(suffix)


def _write_part(part: Path, write: _Write, asked: Asked) -> int:
    """Write the answer to a file that only we can read, showing progress; gives the number of rows."""
    written = 0
    # A link that somebody put there must not be followed.
    part.unlink(missing_ok=True)
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with (
        open(descriptor, "w", encoding="utf-8", newline="") as out,
        Progress(TextColumn("rows written"), MofNCompleteColumn(), console=Console(stderr=True)) as shown,
    ):
        task = shown.add_task("", total=None)

        def counted() -> Iterator[list[tuple[Any, ...]]]:
            nonlocal written
            for rows in asked.batches:
                yield rows
                written += len(rows)
                shown.update(task, completed=written)

        write(out, Asked(asked.columns, counted()))
    return written


@command.command("status")
@click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
def status(*, as_json: bool) -> None:
    """Show how large the tables are, when they were written last, and what Kafka has that they lack.

    Without Kafka the lag is unknown, and the rest is shown.

    \b
    Example:
      leadstream warehouse status
      leadstream warehouse status --json
    """
    settings = current_settings()
    partitions = _partitions(settings)
    ends = asyncio.run(_ends(settings, partitions))
    try:
        found = status_of(settings.warehouse, partitions)
    except Unusable as fault:
        raise click.ClickException(str(fault)) from None
    lag = None if ends is None else _lag(found, ends)
    if as_json:
        say(json_text({**asdict(found), "offsets": _by_topic(found.offsets), "lag": lag}, indent=2))
        return
    shown = Table("Table", "Rows", "Bytes", "Files", "Written (UTC)")
    for one in found.tables:
        written_at = "" if one.written_at is None else f"{one.written_at.astimezone(UTC):%Y-%m-%d %H:%M:%S}"
        shown.add_row(one.name, *map(plain_text, (one.rows, one.bytes, one.files)), written_at)
    Console().print(shown)
    if lag is None:
        say("Kafka does not answer: the lag is unknown")
    for topic, behind in (lag or {}).items():
        say(f"{topic}: {behind} offsets behind")


@command.command("vacuum")
@click.option("--yes", is_flag=True, help="Do not ask.")
def vacuum(*, yes: bool) -> None:
    """Take what was deleted off the disk at once, with the log entries that tell of it.

    For Delta Lake, with the sink stopped: it does so by itself a day later, for readers that began before find their
    files gone. PostgreSQL vacuums by itself.

    \b
    Example:
      leadstream warehouse vacuum
    """
    settings = current_settings()
    if is_server(settings.warehouse):
        raise click.ClickException("PostgreSQL vacuums by itself: there is nothing to take off here")
    _require_no_sink(settings)
    if not yes:
        click.confirm("Queries that began before will fail, and no former version can be read. Go on?", abort=True)
    try:
        tables = vacuum_now(settings.warehouse)
    except Unusable as fault:
        raise click.ClickException(str(fault)) from None
    say(f"{tables} tables: nothing of what was deleted is left")


@command.command("rebuild")
@click.option("--swap", is_flag=True, help="Put the new warehouse in the place of the old one when they are equal.")
def rebuild(*, swap: bool) -> None:
    """Fill an empty warehouse from Kafka, up to where this one is, and compare the two.

    The new one lies beside the old: the directory NAME.rebuilt, or the schema NAME_rebuilt of the same PostgreSQL
    database. The sink must be stopped. Equal means that leads and followup_outcomes are, row by row; of the other
    tables Kafka may have lost rows to compaction and retention, and the old ones stay in NAME.before or NAME_before.
    Readers of PostgreSQL go on during a swap. Ends non-zero when the warehouses differ.

    \b
    Example:
      leadstream warehouse rebuild
      leadstream warehouse rebuild --swap
    """
    settings = current_settings()
    try:
        place = replacement_of(settings.warehouse)
        place.require_room()
        with kafka_answers():
            differing = asyncio.run(_rebuild(settings, schema_ids(settings), place))
        if differing:
            raise click.ClickException(f"{', '.join(differing)}: not equal; the rebuilt warehouse is {place.new}")
        if swap:
            place.swap()
    except (Unusable, BadQuery) as fault:
        raise click.ClickException(str(fault)) from None
    if swap:
        say(f"Swapped. The old warehouse is {place.aside}")
    else:
        say(f"Equal. The rebuilt warehouse is {place.new}")


def _require_no_sink(settings: Settings) -> None:
    broker = broker_of(settings)
    with kafka_answers():
        asyncio.run(_stopped(settings, broker))


async def _stopped(settings: Settings, broker: Cluster) -> None:
    if await sink_is_running(broker, f"{settings.topic_prefix}leadstream-warehouse"):
        raise click.ClickException("a warehouse sink is running: stop it first")


async def _rebuild(settings: Settings, ids: Ids, place: Replacement) -> list[str]:
    """The names of the tables that are not equal."""
    broker, partitions = broker_of(settings), _partitions(settings)
    await _stopped(settings, broker)
    before = status_of(settings.warehouse, partitions)
    if not before.offsets:
        raise click.ClickException("the warehouse holds nothing of these topics")
    with Progress(TextColumn("records read"), MofNCompleteColumn(), console=Console(stderr=True)) as shown:
        task = shown.add_task("", total=None)
        await fill(settings, broker, ids, place, before, lambda read: shown.advance(task, read))
    found = await asyncio.to_thread(compare, place)
    for one in found:
        say(f"{one.table}: {one.rows} rows, {one.rebuilt} rebuilt{', equal' if one.same else ''}")
    return [one.table for one in found if one.same is False]


def _partitions(settings: Settings) -> list[TopicPartition]:
    return [
        TopicPartition(topic, partition)
        for topic in tables_by_topic(settings.topic)
        for partition in range(settings.partitions)
    ]


async def _ends(settings: Settings, partitions: list[TopicPartition]) -> dict[TopicPartition, int] | None:
    """The end of each partition that there is, None where no Kafka answers."""
    broker = known_broker(settings)
    if broker is None:
        return None
    reader = kafka.consumer(broker, group=None, client_id="leadstream-status")
    try:
        await reader.start()
        known = await reader.topics()
        ends: dict[TopicPartition, int] = await reader.end_offsets([one for one in partitions if one.topic in known])
    except KafkaConnectionError:
        return None
    finally:
        await reader.stop()
    return ends


def _lag(found: Status, ends: Mapping[TopicPartition, int]) -> dict[str, int]:
    return _by_topic({one: end - found.offsets.get(one, 0) for one, end in ends.items()})


def _by_topic(offsets: Mapping[TopicPartition, int]) -> dict[str, int]:
    summed = Counter[str]()
    for one, offset in offsets.items():
        summed[one.topic] += offset
    return dict(summed)


def _print_table(answer: Answer) -> None:
    table = Table()
    for column in answer.columns:
        table.add_column(cell(column))
    for row in answer.rows:
        table.add_row(*(cell(plain_text(value)) for value in row))
    console = Console()
    if not console.is_terminal:
        # A pipe or a file has no width at which to cut.
        console.width = max(
            console.width, Measurement.get(console, console.options.update(max_width=_UNCUT), table).maximum
        )
    console.print(table)
    say(f"{len(answer.rows)} rows")


def _print_csv(answer: Answer, text: Callable[[Any], str]) -> None:
    def shown(value: Any) -> str:
        return visible(text(value)) if sys.stdout.isatty() else text(value)

    write_csv(sys.stdout, Asked(answer.columns, iter([list(answer.rows)])), text=shown)


def _print_json(answer: Answer) -> None:
    twice = sorted({one for one in answer.columns if answer.columns.count(one) > 1})
    if twice:
        raise click.ClickException(f"{', '.join(twice)}: several columns of one name; give each its own with `as`")
    say(json_text([dict(zip(answer.columns, row, strict=True)) for row in answer.rows], indent=2))
