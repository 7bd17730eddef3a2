"""Secrets from files: `NAME_FILE` names the file that holds the value of `NAME`."""

from collections.abc import Mapping
from pathlib import Path

from runtime.file_faults import reason


class SecretFileFault(ValueError):
    """A secret's file cannot be used; the message is one line that names variable and file and shows no content."""


def secret_text(environ: Mapping[str, str], name: str) -> str | None:
    """The value of `name`, else the text of the file that `<name>_FILE` names, else None; empty counts as unset."""
    value, path = environ.get(name), environ.get(f"{name}_FILE")
    if not path:
        return value or None
    if value:
        raise SecretFileFault(f"{name} and {name}_FILE are both set: unset one of them")
    return _read(f"{name}_FILE", Path(path))


def _read(variable: str, path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as fault:
        raise SecretFileFault(f"{variable}: {path} cannot be read: {reason(fault)}") from None
    text = text.removesuffix("\n").removesuffix("\r")
    if not text.strip():
        raise SecretFileFault(f"{variable}: {path} is empty")
    if len(text.splitlines()) > 1:
        raise SecretFileFault(f"{variable}: {path} has more than one line")
    return text
