"""How far a long read is, told on stderr while it lasts."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TextColumn


@contextmanager
def counted(what: str) -> Iterator[Callable[[int], None]]:
    """A count, for a terminal, of something whose number nobody knows before; what it gives takes counts."""
    columns, console = (TextColumn(what), MofNCompleteColumn()), Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as shown:
        task = shown.add_task("", total=None)
        yield lambda count: shown.advance(task, count)
