"""Logs as JSON lines: an event's name and its fields, with every known secret taken out."""

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

# At DEBUG aiokafka prints keys and values, at INFO httpx prints URLs: neither goes below WARNING, whatever is asked.
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
    """Takes the configured secrets, and whatever looks like a token, out of texts."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        longest_first = sorted(filter(None, secrets), key=len, reverse=True)
        self._secrets = re.compile("|".join(map(re.escape, longest_first))) if longest_first else None

    def text(self, text: str) -> str:
        if self._secrets is not None:
            text = self._secrets.sub(REDACTED, text)
        text = _NAMED_SECRET.sub(rf"\1\2{REDACTED}", text)
        return _META_TOKEN.sub(REDACTED, _BEARER.sub(rf"\1{REDACTED}", text))

    def value(self, value: Any) -> Any:
        """A JSON value of the same shape; what JSON has no word for becomes its text."""
        match value:
            case None | bool() | int() | float():
                return value
            case Mapping():
                return {self.text(str(key)): self.value(one) for key, one in value.items()}
            case list() | tuple():
                return [self.value(one) for one in value]
            case _:
                return self.text(str(value))


class JsonLines(logging.Formatter):
    """One JSON object a line. Values are redacted last, after arguments and tracebacks have become text."""

    def __init__(self, redaction: Redaction) -> None:
        super().__init__()
        self._redaction = redaction

    def formatException(self, ei: Any) -> str:
        return told(ei[1])

    def format(self, record: logging.LogRecord) -> str:
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        # In ASCII no word of others can move a terminal that shows the log.
        return json.dumps({"time": time, **self._line(record)})

    def timeless(self, record: logging.LogRecord) -> str:
        """The line without its time: the same for the same again."""
        return json.dumps(self._line(record))

    def _line(self, record: logging.LogRecord) -> dict[str, Any]:
        fields = {name: value for name, value in vars(record).items() if name not in _PLAIN_FIELDS}
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        if record.stack_info:
            fields["stack"] = record.stack_info
        event = record.getMessage()
        if record.name == "asyncio" and record.exc_info:
            # It goes on with what tasks and callbacks hold, which may be what a person wrote.
            event = event.partition("\n")[0].partition("(")[0]
        return {
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": self._redaction.text(event),
            **{name: self._redaction.value(value) for name, value in fields.items()},
        }


def told(error: BaseException | None) -> str:
    """The places and kinds of an exception, its causes and members, without their words: these may quote a person's."""
    parts = []
    while error is not None:
        parts.append("".join(traceback.format_tb(error.__traceback__)) + type(error).__name__)
        if isinstance(error, BaseExceptionGroup):
            parts += map(told, error.exceptions)
        error = error.__cause__ or error.__context__
    return "\n".join(parts)


def tell_crash(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """As `sys.excepthook`: what ends the process, in the log if there is one, and in no way with its words."""
    if logging.getLogger().handlers:
        _log.critical("process.crashed", exc_info=(kind, error, trace))
    else:
        sys.stderr.write(f"{told(error)}\n")


def configure_logging(level: str, *, secrets: Iterable[str], file: LogFile | None = None) -> None:
    """Log to standard error, maybe in a `file`, from `level` on. Raises `ValueError` when there is no such level."""
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
