"""The way to a terminal: text made visible, tables, progress, masks, and every fault in one line."""

import asyncio
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import click
from aiokafka.errors import InvalidTopicError, KafkaConnectionError, KafkaError
from rich.console import Console  # noqa: TID251 - all consoles are made here
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TimeRemainingColumn
from rich.table import Column
from rich.text import Text  # noqa: TID251 - the cells of all tables are made here

from leads.records import Lead
from operations.deployment import current_settings, require_broker
from operations.masking import masked
from runtime.access import NOT_ALLOWED, refused_use
from runtime.kafka_probe import find_fault
from runtime.mendable import Mendable
from runtime.settings import variable

_Result = TypeVar("_Result")

MASKED = "[masked; see --show-pii]"
# C0 but the line feed, DEL and C1; separators of lines; overrides of the direction of text; lone surrogates, which no
# encoding can print. In JSON all of these stand inside strings, where the escape means the same.
_OBEYED = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
# Without a terminal rich takes 80 columns, which break ids and topic names.
_WIDTH_OF_A_PIPE = 200


def visible(text: str) -> str:
    """The text with the escapes of JSON for everything that a terminal would obey; line feeds stay.

    This is the one escape: everything that is printed passes it.
    """
    return _OBEYED.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def one_line(text: str) -> str:
    """`visible` without line feeds: the words of others must not look like a line of ours."""
    return visible(text).replace("\n", "\\u000a")


def say(*lines: str, err: bool = False) -> None:
    """Print lines."""
    click.echo("\n".join(map(one_line, lines)), err=err)  # noqa: TID251 - all lines are printed here


def print_json(text: str) -> None:
    """Print JSON, which remains the same JSON."""
    click.echo(visible(text))  # noqa: TID251 - all JSON is printed here


def cell(text: str) -> Text:
    """A cell of a table, in which no markup counts."""
    return Text(one_line(text))


class _EscapingConsole(Console):
    """Escapes what it prints; no markup counts."""

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(one_line(text), **options)


def console(*, width: int | None = None, stderr: bool = False) -> Console:
    """A console for tables and progress."""
    return _EscapingConsole(width=width, stderr=stderr, markup=False, emoji=False)


def wide_console() -> Console:
    """A console for tables that a pipe gets in full width."""
    return console(width=None if sys.stdout.isatty() else _WIDTH_OF_A_PIPE)


class _Label(ProgressColumn):
    def render(self, task: Task) -> Text:
        return cell(task.description)


def label_column() -> ProgressColumn:
    """The column with the label of a progress bar."""
    return _Label(Column(no_wrap=True))


@dataclass(frozen=True, slots=True)
class Terminal:
    """The progress of an operation, on standard error.

    Counts disappear when they end, and are not shown where standard error is no terminal, unless they are `kept`.
    """

    kept: bool = False

    def say(self, text: str) -> None:
        say(text, err=True)

    @contextmanager
    def count(self, label: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
        """A bar, or a bare count without a total."""
        shown_on = console(stderr=True)
        bar = () if total is None else (BarColumn(), TimeRemainingColumn())
        columns = (label_column(), MofNCompleteColumn(), *bar)
        is_hidden = not self.kept and not shown_on.is_terminal
        with Progress(*columns, console=shown_on, transient=not self.kept, disable=is_hidden) as progress:
            task = progress.add_task(label, total=total)
            yield lambda increase: progress.advance(task, increase)


def lead_columns(lead: Lead, *, show_pii: bool) -> dict[str, str]:
    """The columns of `leadstream leads`, by title."""
    source = f"{len(lead.answers)} by {lead.answers_source}" if lead.answers else lead.answers_source
    return {
        "Updated (UTC)": masked("updated_at", lead.updated_at, show_pii=show_pii),
        "Lead": lead.lead_id,
        "Rev": str(lead.revision),
        "Page": lead.page_id,
        "PSID": masked("psid", lead.psid, show_pii=show_pii),
        "Outcome": lead.outcome,
        "State": "closed" if lead.closed else "open",
        "Ad": (lead.ad.ad_title or lead.ad.ad_id or "—") if lead.ad else "—",
        "Answers": masked("answers", lead.answers, show_pii=True) if show_pii and lead.answers else source,
    }


def run(work: Callable[[], _Result]) -> _Result:
    """Do the work of a command; every fault that an operator can mend becomes a `ClickException` of one line."""
    try:
        return work()
    except click.ClickException as fault:
        fault.message = one_line(fault.message)
        raise
    except Mendable as fault:
        raise click.ClickException("\n       ".join(map(one_line, fault.args))) from None
    except KafkaConnectionError:
        problem = run(_connection_fault)
    except NOT_ALLOWED as fault:
        principal = run(lambda: require_broker(current_settings()).principal)
        problem = f"no ACL of Kafka allows {principal} {refused_use(fault)}: `leadstream topics acls` prints all ACLs"
    except KafkaError as fault:
        problem = _refusal(fault)
    except OSError as fault:
        problem = _file_fault(fault)
    raise click.ClickException(one_line(problem))


def _file_fault(fault: OSError) -> str:
    """The file and why it cannot be used; any other fault of the system is raised again."""
    if fault.filename is None:
        raise fault
    whose = ": it belongs to another user" if isinstance(fault, PermissionError) else ""
    return f"{os.fsdecode(fault.filename)}: {fault.strerror}{whose}"


def _refusal(fault: KafkaError) -> str:
    if isinstance(fault, InvalidTopicError) and fault.args:
        return f"Kafka takes no topic of the name {', '.join(map(str, fault.args))}: see {variable('topic_prefix')}"
    return f"Kafka refused: {type(fault).__name__}"


def _connection_fault() -> str:
    fault = asyncio.run(find_fault(require_broker(current_settings())))
    return str(fault or "Kafka did not answer, and does now: run the command again")
