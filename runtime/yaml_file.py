"""YAML files of settings: each fault names file, line and key; `${NAME}` reads the environment."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import yaml

from runtime.duration import duration_of
from runtime.file_faults import reason
from runtime.mendable import Mendable
from runtime.secret_file import SecretFileFault, secret_text

# YAML takes escapes such as \ud83d, of which two make a character in JSON; no encoding can write such a half.
_HALF = re.compile("[\ud800-\udfff]")
VARIABLE = re.compile(r"\$\{(\w+)\}")
_LONGEST = timedelta(days=365)
_Read = TypeVar("_Read")
_Default = TypeVar("_Default")


class FileFault(Mendable, ValueError):
    """Something is wrong in a file of settings; the message starts with file and line."""


class FileMissing(FileFault):
    """There is no such file."""


@dataclass(frozen=True, slots=True)
class Value:
    """One place in a YAML file, and the key that leads there. Every method raises `FileFault` for another shape."""

    path: Path
    node: yaml.Node
    environ: Mapping[str, str]
    key: str = ""

    def fault(self, problem: str) -> FileFault:
        key = f"{self.key}: " if self.key else ""
        return FileFault(f"{self.path}:{self.node.start_mark.line + 1}: {key}{problem}")

    def _at(self, node: yaml.Node, key: str) -> "Value":
        return Value(self.path, node, self.environ, key)

    def section(self, *allowed: str) -> "Section":
        """A mapping. Where keys are named, any other key is a fault."""
        if not isinstance(self.node, yaml.MappingNode):
            raise self.fault("expected a mapping")
        section = Section(self)
        for key_node, value_node in self.node.value:
            key = self._at(key_node, self.key)
            name = key.text()
            if allowed and name not in allowed:
                raise key.fault(f"unknown key {name!r}; known are {', '.join(allowed)}")
            if name in section:
                raise key.fault(f"duplicate key {name!r}")
            section[name] = self._at(value_node, name)
        return section

    @property
    def is_list(self) -> bool:
        return isinstance(self.node, yaml.SequenceNode)

    def plain(self) -> Any:
        """Mappings, lists, texts, numbers, booleans and null as JSON has them; texts as `text` gives them."""
        if isinstance(self.node, yaml.MappingNode):
            return {name: value.plain() for name, value in self.section().items()}
        if self.is_list:
            return [value.plain() for value in self.items()]
        kind = self.node.tag.rpartition(":")[2]
        return yaml.safe_load(self.text()) if kind in ("bool", "int", "float", "null") else self.text()

    def flag(self) -> bool:
        """`true` or `false`."""
        return self.choice("true", "false") == "true"

    def items(self) -> "Iterator[Value]":
        if not isinstance(self.node, yaml.SequenceNode):
            raise self.fault("expected a list")
        return (self._at(node, self.key) for node in self.node.value)

    def texts(self) -> tuple[str, ...]:
        return tuple(item.text() for item in self.items())

    def text(self) -> str:
        """A scalar as text, with `${NAME}` filled from the environment, or from the file that `NAME_FILE` names."""
        if not isinstance(self.node, yaml.ScalarNode):
            raise self.fault("expected one value")
        if _HALF.search(self.node.value):
            raise self.fault("half of a character: write it whole, as in 👍 or \\U0001F44D")
        return VARIABLE.sub(self._variable, self.node.value)

    def variables(self) -> frozenset[str]:
        """The names of the variables in a scalar, whether they are set or not."""
        return frozenset(VARIABLE.findall(self.node.value)) if isinstance(self.node, yaml.ScalarNode) else frozenset()

    def _variable(self, match: re.Match[str]) -> str:
        try:
            value = secret_text(self.environ, match[1])
        except SecretFileFault as fault:
            raise self.fault(str(fault)) from None
        if value is None:
            raise self.fault(f"the environment variable {match[1]} is not set")
        return value

    def duration(self) -> timedelta:
        duration = duration_of(self.text())
        if duration is None or duration > _LONGEST:
            raise self.fault(f"expected a duration such as 5s, 15m, 2h or 4d, at most {_LONGEST.days}d")
        return duration

    def choice(self, *choices: str) -> str:
        text = self.text()
        if text not in choices:
            raise self.fault(f"expected one of {', '.join(choices)}")
        return text


class Section(dict[str, Value]):
    """The values of a mapping by key."""

    def __init__(self, value: Value) -> None:
        super().__init__()
        self.value = value

    def required(self, key: str) -> Value:
        if key not in self:
            raise self.value.fault(f"{key!r} is missing")
        return self[key]

    def read(self, key: str, reader: Callable[[Value], _Read], default: _Default) -> _Read | _Default:
        """The value as `reader` reads it, or the default where the key is missing."""
        return reader(self[key]) if key in self else default


def read_yaml(path: Path, environ: Mapping[str, str]) -> Value:
    """The file's root. Raises `FileMissing` when there is none, `FileFault` when it cannot be read or is not YAML."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as fault:
        raise FileMissing(f"{path}: cannot be read: {reason(fault)}") from None
    except (OSError, UnicodeDecodeError) as fault:
        raise FileFault(f"{path}: cannot be read: {reason(fault)}") from None
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as fault:
        line = fault.problem_mark.line + 1 if fault.problem_mark else 1
        raise FileFault(f"{path}:{line}: not YAML: {fault.problem}") from None
    except yaml.reader.ReaderError as fault:
        line = text.count("\n", 0, fault.position) + 1
        raise FileFault(f"{path}:{line}: not YAML: {fault.reason}") from None
    except RecursionError:
        raise FileFault(f"{path}:1: nested too deeply") from None
    if node is None:
        raise FileFault(f"{path}:1: the file is empty")
    return Value(path, node, environ)
