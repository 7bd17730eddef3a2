"""YAML files of settings: a value knows its file and line, `${NAME}` reads the environment, unknown keys are faults."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import yaml

from runtime.file_faults import reason
from runtime.secret_file import SecretFileFault, secret_text

VARIABLE = re.compile(r"\$\{(\w+)\}")
_DURATION = re.compile(r"(\d+)(ms|s|m|h|d)")
_LONGEST = timedelta(days=365)
_DURATION_DIGITS = 12
_UNITS = {"ms": "milliseconds", "s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


class FileFault(ValueError):
    """Something is wrong in a file of settings; the message starts with file and line."""


class FileMissing(FileFault):
    """There is no such file."""


@dataclass(frozen=True, slots=True)
class Value:
    """One place in a YAML file. Every method refuses what it cannot give with a `FileFault`."""

    path: Path
    node: yaml.Node
    environ: Mapping[str, str]

    def fault(self, what: str) -> FileFault:
        return FileFault(f"{self.path}:{self.node.start_mark.line + 1}: {what}")

    def _at(self, node: yaml.Node) -> "Value":
        return Value(self.path, node, self.environ)

    def section(self, *allowed: str) -> "dict[str, Value]":
        """A mapping; when keys are named, no others may stand in it."""
        if not isinstance(self.node, yaml.MappingNode):
            raise self.fault("a mapping is wanted here")
        found: dict[str, Value] = {}
        for key, value in self.node.value:
            name = self._at(key).text()
            if allowed and name not in allowed:
                raise self._at(key).fault(f"unknown key {name!r}; known are {', '.join(allowed)}")
            if name in found:
                raise self._at(key).fault(f"{name!r} stands here twice")
            found[name] = self._at(value)
        return found

    def required(self, key: str, *allowed: str) -> "Value":
        """The value of a key that must be there, in a mapping of this and the allowed keys."""
        given = self.section(key, *allowed)
        if key not in given:
            raise self.fault(f"{key!r} is missing")
        return given[key]

    def items(self) -> "Iterator[Value]":
        if not isinstance(self.node, yaml.SequenceNode):
            raise self.fault("a list is wanted here")
        return map(self._at, self.node.value)

    def text(self) -> str:
        """A scalar as text, with `${NAME}` filled from the environment, or from the file that `NAME_FILE` names."""
        if not isinstance(self.node, yaml.ScalarNode):
            raise self.fault("one value is wanted here")
        return VARIABLE.sub(self._variable, self.node.value)

    def variables(self) -> frozenset[str]:
        """The names of the variables in a scalar, whether they are set or not."""
        return frozenset(VARIABLE.findall(self.node.value)) if isinstance(self.node, yaml.ScalarNode) else frozenset()

    def _variable(self, found: re.Match[str]) -> str:
        try:
            value = secret_text(self.environ, found[1])
        except SecretFileFault as fault:
            raise self.fault(str(fault)) from None
        if value is None:
            raise self.fault(f"the environment variable {found[1]} is not set")
        return value

    def duration(self) -> timedelta:
        found = _DURATION.fullmatch(self.text())
        if found is None:
            raise self.fault("a duration is wanted here, such as 5s, 15m, 2h or 4d")
        if len(found[1]) > _DURATION_DIGITS or (duration := timedelta(**{_UNITS[found[2]]: int(found[1])})) > _LONGEST:
            raise self.fault(f"a duration of at most {_LONGEST.days}d is expected here")
        return duration

    def one_of(self, *choices: str) -> str:
        text = self.text()
        if text not in choices:
            raise self.fault(f"{text!r} is none of {', '.join(choices)}")
        return text


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
    if node is None:
        raise FileFault(f"{path}:1: the file is empty")
    return Value(path, node, environ)
