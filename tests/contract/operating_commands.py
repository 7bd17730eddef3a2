"""The `leadstream` commands of docs/operating.md, as a shell would hand them over."""

import re
import shlex
from dataclasses import dataclass

from docs.generate import DOCS

_BLOCK = re.compile(r"^ *```sh\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
_VARIABLE = re.compile(r"[A-Z_]+=\S+")


@dataclass(frozen=True, slots=True)
class Command:
    """One line of a block: what it puts into the environment, and the words after `leadstream`."""

    environ: dict[str, str]
    words: tuple[str, ...]

    def __str__(self) -> str:
        return shlex.join(self.words)


def operating_commands(text: str | None = None) -> list[Command]:
    """Every command of the page's blocks, each once. Fails on a line that is another program's."""
    page = (DOCS / "operating.md").read_text(encoding="utf-8") if text is None else text
    found = [_command(line.strip()) for block in _BLOCK.findall(page) for line in block.splitlines() if line.strip()]
    return list({str(command): command for command in found}.values())


def _command(line: str) -> Command:
    words = shlex.split(line)
    environ = {}
    while _VARIABLE.fullmatch(words[0]):
        name, _, value = words.pop(0).partition("=")
        environ[name] = value
    assert words.pop(0) == "leadstream", f"no test runs this line: {line}"
    return Command(environ, tuple(words))
