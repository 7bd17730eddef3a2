"""Logs as JSON lines: an event's name and its fields, with every known secret redacted."""

import io
import json
import logging
import re
import sys
import traceback
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, BinaryIO, cast

from runtime.log_file import LogFile
from runtime.log_limit import LimitedHandler

REDACTED = "[redacted]"

# At DEBUG aiokafka prints keys and values, at INFO httpx prints URLs: both stay at WARNING or above.
_QUIET = ("aiokafka", "asyncio", "httpcore", "httpx", "uvicorn")

_NAMED_SECRET = re.compile(
    r"""(?ix) \b (access_token | appsecret_proof | client_secret | verify_token)
        ( ["']? \s* (?: = | : | %3D ) \s* ["']? ) [^\s&"',;}\])]+ """
)
_BEARER = re.compile(r"(?i)\b(bearer\s+)[^\s\"',]+")
# Meta's access tokens; https://developers.facebook.com/documentation/facebook-login/guides/access-tokens
_META_TOKEN = re.compile(r"\bEAA[0-9A-Za-z_-]{8,}")
_PLAIN_FIELDS = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}

_log = logging.getLogger(__name__)


class Redaction:
    """Replaces the configured secrets, and text that looks like a token."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        longest_first = sorted(filter(None, secrets), key=len, reverse=True)
        self._secrets = re.compile("|".join(map(re.escape, longest_first))) if longest_first else None

    def text(self, text: str) -> str:
        if self._secrets is not None:
            text = self._secrets.sub(REDACTED, text)
        text = _NAMED_SECRET.sub(rf"\1\2{REDACTED}", text)
        return _META_TOKEN.sub(REDACTED, _BEARER.sub(rf"\1{REDACTED}", text))

    def value(self, value: Any) -> Any:
        """A JSON value of the same shape; a value of any other type becomes text."""
        match value:
            case None | bool() | int() | float():
                return value
            case Mapping():
                return {self.text(str(key)): self.value(field) for key, field in value.items()}
            case list() | tuple():
                return [self.value(item) for item in value]
            case _:
                return self.text(str(value))


class JsonLines(logging.Formatter):
    """One JSON object a line. Values are redacted last, after arguments and tracebacks have become text."""

    def __init__(self, redaction: Redaction) -> None:
        super().__init__()
        self._redaction = redaction

    def formatException(self, ei: Any) -> str:
        return trace_of(ei[1])

    def format(self, record: logging.LogRecord) -> str:
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        # ASCII keeps foreign text from controlling a terminal that shows the log.
        return json.dumps({"time": time, **self._line(record)})

    def timeless(self, record: logging.LogRecord) -> str:
        """The line without its time, equal for a repeated event."""
        return json.dumps(self._line(record))

    def _line(self, record: logging.LogRecord) -> dict[str, Any]:
        fields = {name: value for name, value in vars(record).items() if name not in _PLAIN_FIELDS}
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        if record.stack_info:
            fields["stack"] = record.stack_info
        event = record.getMessage()
        if record.name == "asyncio" and record.exc_info:
            # The rest shows what tasks and callbacks hold, which may be a person's text.
            event = event.partition("\n")[0].partition("(")[0]
        return {
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": self._redaction.text(event),
            **{name: self._redaction.value(value) for name, value in fields.items()},
        }


def trace_of(error: BaseException | None) -> str:
    """The stack and class of an exception, its causes and members, without their messages, which may quote a person."""
    parts = []
    while error is not None:
        parts.append("".join(traceback.format_tb(error.__traceback__)) + type(error).__name__)
        if isinstance(error, BaseExceptionGroup):
            parts += map(trace_of, error.exceptions)
        error = error.__cause__ or error.__context__
    return "\n".join(parts)


def log_crash(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """For `sys.excepthook`: log the exception that ends the process, or print it, without its message."""
    if logging.getLogger().handlers:
        _log.critical("process.crashed", exc_info=(kind, error, trace))
    else:
        sys.stderr.write(f"{trace_of(error)}\n")


def configure_logging(level: str, *, secrets: Iterable[str], file: LogFile | None = None) -> None:
    """Log from `level` on to `file`, else to standard error. Raises `ValueError` for an unknown level."""
    lines = JsonLines(Redaction(secrets))
    # Each write is one line, or an error of that line alone.
    stream = (
        sys.stderr
        if file is None
        else io.TextIOWrapper(cast(BinaryIO, file), "utf-8", "backslashreplace", write_through=True)
    )
    handler = LimitedHandler(stream, lines.timeless)
    handler.setFormatter(lines)
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(logging.WARNING, logging.getLogger().level))
