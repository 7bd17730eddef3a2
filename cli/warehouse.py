"""`leadstream warehouse …`: questions to the warehouse, while the sink writes to it or not."""

import csv
import json
import sys
from datetime import datetime
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from cli.environment import current_settings
from sinks.query import Answer, BadQuery, ask


@click.group()
def command() -> None:
    """Query the warehouse."""


@command.command("sql")
@click.argument("query")
@click.option("--format", "form", type=click.Choice(["table", "csv", "json"]), default="table", show_default=True)
def run_sql(query: str, form: str) -> None:
    """Run one SELECT over lead_events, leads, followup_outcome_events and followup_outcomes.

    The warehouse is LEADSTREAM_WAREHOUSE; the answer is as new as the sink's last commit.

    \b
    Example:
      leadstream warehouse sql "select outcome, count(*) from leads group by outcome"
      leadstream warehouse sql "select lead_id, unnest(answers) from leads" --format json
    """
    try:
        answer = ask(current_settings().warehouse, query)
    except BadQuery as fault:
        raise click.ClickException(str(fault)) from None
    {"table": _print_table, "csv": _print_csv, "json": _print_json}[form](answer)


def _print_table(answer: Answer) -> None:
    table = Table(*answer.columns)
    for row in answer.rows:
        table.add_row(*(Text(_text(value)) for value in row))
    Console().print(table)
    click.echo(f"{len(answer.rows)} rows")


def _print_csv(answer: Answer) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(answer.columns)
    writer.writerows([_text(value) for value in row] for row in answer.rows)


def _print_json(answer: Answer) -> None:
    rows = [dict(zip(answer.columns, row, strict=True)) for row in answer.rows]
    click.echo(json.dumps(rows, default=_plain, ensure_ascii=False, indent=2))


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, list | dict):
        return json.dumps(value, default=_plain, ensure_ascii=False)
    return str(_plain(value) if isinstance(value, datetime) else value)


def _plain(value: Any) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)
