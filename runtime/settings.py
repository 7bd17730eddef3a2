"""The environment, read once into a frozen value. `docs/configuration.md` is made from it."""

import ipaddress
import re
import shlex
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlsplit

from runtime.duration import duration_of
from runtime.loopback import authority, is_loopback
from runtime.mendable import Mendable
from runtime.secret_file import SecretFileFault, secret_text

DEFAULT_KAFKA_PORT = 9092
# Each may come from a file: `<variable>_FILE` names it.
SECRETS = frozenset({"app_secrets", "kafka_sasl_password", "schema_registry_password", "verify_token"})
PREFIX = "LEADSTREAM_"
# No other network resolves such a name, unlike a number, which may be an address.
_CONTAINER = re.compile(r"[a-z][a-z0-9-]*")
_DIGITS = 16
_SHORTEST = timedelta(seconds=1)
_LONGEST = timedelta(days=36_500)


class SettingError(Mendable, ValueError):
    """A variable is missing or wrong; the message names it and never shows its value."""


class _Refused(Exception):
    """The fault of a value, as the rest of a sentence that begins with the variable's name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything that the environment decides. `repr` shows no secret.

    None means: for `broker` the local Kafka, for `schema_registry_url` the built-in registry, for `spool_dir` the
    directory `spool` in `state_dir`, for `retention` for ever.
    """

    broker: str | None = None
    kafka_security_protocol: str = "PLAINTEXT"
    kafka_sasl_mechanism: str | None = None
    kafka_sasl_username: str | None = None
    kafka_sasl_password: str | None = field(default=None, repr=False)
    kafka_oauth_token_command: str | None = field(default=None, repr=False)
    kafka_ca_file: Path | None = None
    kafka_cert_file: Path | None = None
    kafka_key_file: Path | None = None
    kafka_port: int = DEFAULT_KAFKA_PORT
    schema_registry_url: str | None = None
    schema_registry_username: str | None = None
    schema_registry_password: str | None = field(default=None, repr=False)
    schema_registry_ca_file: Path | None = None
    app_id: str | None = None
    app_secrets: tuple[str, ...] = field(default=(), repr=False)
    verify_token: str | None = field(default=None, repr=False)
    pages: Path = Path("pages.yaml")
    followups: Path = Path("followups.yaml")
    graph_url: str = "https://graph.facebook.com"
    graph_version: str = "v25.0"
    warehouse: str = ".leadstream/warehouse"
    host: str = "127.0.0.1"
    port: int = 8000
    admin_host: str = "127.0.0.1"
    admin_port: int = 8001
    public_url: str | None = None
    keep_alive: timedelta = timedelta(seconds=75)
    log_file: Path | None = None
    log_bytes: int = 256 * 1024**2
    spool_dir: Path | None = None
    spool_bytes: int = 1024**3
    receipts: Path | None = None
    state_dir: Path = Path(".leadstream")
    partitions: int = 8
    replication: int = 1
    topic_prefix: str = ""
    retention: timedelta | None = None

    def require(self, *names: str) -> None:
        """Raise `SettingError` unless each named setting has a value."""
        for name in names:
            if not getattr(self, name):
                raise SettingError(f"{variable(name)} is not set: it has no default")

    @property
    def secrets(self) -> tuple[str, ...]:
        """The values that no log may show."""
        own = (self.verify_token, self.kafka_sasl_password, self.schema_registry_password)
        return tuple(filter(None, (*self.app_secrets, *own)))

    def topic(self, name: str) -> str:
        """The name of a topic on this cluster."""
        return f"{self.topic_prefix}{name}"

    def admin_url(self, port: int) -> str:
        """The root of an admin port, as this machine reaches it."""
        address = ipaddress.ip_address(self.admin_host)
        if address.is_unspecified:
            address = ipaddress.ip_address("::1" if address.version == 6 else "127.0.0.1")
        return f"http://{authority(str(address), port)}"


def variable(name: str) -> str:
    """The environment variable of a field."""
    return PREFIX + {"app_secrets": "APP_SECRET"}.get(name, name.upper())


def read_settings(environ: Mapping[str, str]) -> Settings:
    """Settings from `LEADSTREAM_…` variables; an empty variable counts as unset."""
    values: dict[str, Any] = {}
    for name in Settings.__dataclass_fields__:
        if text := _text(environ, name):
            try:
                values[name] = _READERS.get(name, str)(text)
            except _Refused as refused:
                raise SettingError(f"{variable(name)} {refused}") from None
    return Settings(**values)


def _text(environ: Mapping[str, str], name: str) -> str | None:
    if name not in SECRETS:
        return environ.get(variable(name))
    try:
        return secret_text(environ, variable(name))
    except SecretFileFault as fault:
        raise SettingError(str(fault)) from None


def _whole_number(low: int, high: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not text.isascii() or not text.isdigit() or len(text) > _DIGITS or not low <= int(text) <= high:
            raise _Refused(f"must be a whole number from {low} to {high}")
        return int(text)

    return read


def _duration(text: str) -> timedelta:
    duration = duration_of(text)
    if duration is None or not _SHORTEST <= duration <= _LONGEST:
        raise _Refused("must be a duration such as 90s, 15m, 12h or 30d")
    return duration


def _address_parts(text: str) -> SplitResult:
    """The parts of an address; all are empty where it names no host to connect to."""
    with suppress(ValueError):
        parts = urlsplit(text)
        if parts.hostname is not None and parts.port != 0:
            return parts
    return urlsplit("")


def _public_address(text: str) -> str:
    """The address without the slash at its end, so that a path can follow."""
    plain = text.isascii() and text.isprintable() and not set(text) & set(' ?#@"<>\\')
    if _address_parts(text).scheme != "https" or not plain:
        raise _Refused("must be an https address such as https://leads.example.com")
    return text.rstrip("/")


def _ip_address(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        raise _Refused("must be an IP address such as 127.0.0.1, 0.0.0.0 or ::") from None


def _registry_address(text: str) -> str:
    parts = _address_parts(text)
    if "@" in parts.netloc:
        user, password = variable("schema_registry_username"), variable("schema_registry_password")
        raise _Refused(f"must hold no user and password: set {user} and {password}")
    if parts.scheme not in {"http", "https"} or not text.isprintable() or parts.query or parts.fragment:
        raise _Refused("must be an address such as https://registry.example.com")
    return text


def _is_graph_address(text: str) -> bool:
    parts = _address_parts(text)
    host = parts.hostname or ""
    return parts.scheme == "https" or (
        parts.scheme == "http" and (is_loopback(host) or _CONTAINER.fullmatch(host) is not None)
    )


def _secrets(text: str) -> tuple[str, ...]:
    secrets = tuple(part.strip() for part in text.split(","))
    if not all(secrets):
        raise _Refused("has an empty secret between its commas")
    return secrets


def _is_command(text: str) -> bool:
    with suppress(ValueError):
        return bool(shlex.split(text))
    return False


def _checked(is_right: Callable[[str], bool], fault: str) -> Callable[[str], str]:
    """The text as it is, if it is right."""

    def read(text: str) -> str:
        if not is_right(text):
            raise _Refused(fault)
        return text

    return read


def _one_of(*choices: str) -> Callable[[str], str]:
    return _checked(choices.__contains__, f"must be one of {', '.join(choices)}")


_PATHS = ("pages", "followups", "spool_dir", "receipts", "state_dir", "log_file")
_PEM_FILES = ("kafka_ca_file", "kafka_cert_file", "kafka_key_file", "schema_registry_ca_file")
# Any other setting is text as it is.
_READERS: Mapping[str, Callable[[str], object]] = {
    **dict.fromkeys((*_PATHS, *_PEM_FILES), Path),
    **dict.fromkeys(("port", "admin_port"), _whole_number(0, 65535)),
    **dict.fromkeys(("log_bytes", "spool_bytes"), _whole_number(2**20, 2**50)),
    **dict.fromkeys(("keep_alive", "retention"), _duration),
    "admin_host": _ip_address,
    "app_id": _checked(
        lambda text: text.isascii() and text.isdigit(), "must be the number that the App Dashboard shows"
    ),
    "app_secrets": _secrets,
    "graph_url": _checked(
        _is_graph_address,
        "must be an https address such as https://graph.facebook.com, or http on loopback or to "
        "a container's name without a dot: access tokens are sent there",
    ),
    "kafka_oauth_token_command": _checked(_is_command, "must be a command with its arguments, quoted as for a shell"),
    "kafka_port": _whole_number(1, 65535),
    "kafka_sasl_mechanism": _one_of("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"),
    "kafka_security_protocol": _one_of("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"),
    "partitions": _whole_number(1, 10_000),
    "public_url": _public_address,
    "replication": _whole_number(1, 100),
    "schema_registry_url": _registry_address,
    # https://www.rfc-editor.org/rfc/rfc7617#section-2
    "schema_registry_username": _checked(lambda text: ":" not in text, "must not have a colon"),
    "verify_token": _checked(
        lambda text: text.isprintable() and text == text.strip(),
        "has a blank at its beginning or end, or a line break: take it off",
    ),
}
