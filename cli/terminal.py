"""The one way to a terminal: what it would obey, and what would reorder a line, is made visible."""

import re

import click
from rich.text import Text  # noqa: TID251 - the cells of all tables are made here

# C0 but the line feed, DEL and C1; separators of lines; what overrides the direction of text; halves of a pair, which
# no encoding can print. In JSON all of these stand inside strings, where the escape means the same.
_OBEYED = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def visible(text: str) -> str:
    """The text with the escapes of JSON for what a terminal would obey; line feeds stay."""
    return _OBEYED.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def one_line(text: str) -> str:
    """`visible` without line feeds: for words of others, which must not look like a line of ours."""
    return visible(text).replace("\n", "\\u000a")


def say(text: str, *, err: bool = False) -> None:
    """Print a line, or several."""
    click.echo(visible(text), err=err)  # noqa: TID251 - everything is printed here


def cell(text: str) -> Text:
    """A cell of a table, in which no markup counts."""
    return Text(visible(text))
