"""The environment, read once into a frozen value. `docs/configuration.md` is made from it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from runtime import setting_values as values
from runtime.loopback import authority, reached
from runtime.mendable import Mendable
from runtime.secret_file import SecretFileFault, secret_text
from runtime.setting_values import DEFAULT_KAFKA_PORT, LAST_PORT, Refused

# Each may come from a file: `<variable>_FILE` names it.
SECRETS = frozenset({"app_secrets", "console_token", "kafka_sasl_password", "schema_registry_password", "verify_token"})
PREFIX = "LEADSTREAM_"


class SettingError(Mendable, ValueError):
    """A variable is missing or wrong; the message names it and never shows its value."""


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
    destinations: Path = Path("destinations.yaml")
    graph_url: str = "https://graph.facebook.com"
    graph_version: str = "v25.0"
    warehouse: str = ".leadstream/warehouse"
    host: str = "127.0.0.1"
    port: int = 8000
    admin_host: str = "127.0.0.1"
    admin_port: int = 8001
    console_token: str | None = field(default=None, repr=False)
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
    canary: timedelta | None = None

    def require(self, *names: str) -> None:
        """Raise `SettingError` unless each named setting has a value."""
        for name in names:
            if not getattr(self, name):
                raise SettingError(f"{variable(name)} is not set: it has no default")

    @property
    def secrets(self) -> tuple[str, ...]:
        """The values that no log may show."""
        own = (self.verify_token, self.console_token, self.kafka_sasl_password, self.schema_registry_password)
        return tuple(filter(None, (*self.app_secrets, *own)))

    @property
    def spill(self) -> Path:
        """The directory for what a query of an embedded warehouse cannot hold in memory."""
        return self.state_dir / "queries"

    def topic(self, name: str) -> str:
        """The name of a topic on this cluster."""
        return f"{self.topic_prefix}{name}"

    def admin_url(self, port: int) -> str:
        """The root of an admin port, as this machine reaches it."""
        return f"http://{authority(reached(self.admin_host), port)}"


def variable(name: str) -> str:
    """The environment variable of a field."""
    return PREFIX + {"app_secrets": "APP_SECRET"}.get(name, name.upper())


def read_settings(environ: Mapping[str, str]) -> Settings:
    """Settings from `LEADSTREAM_…` variables; an empty variable counts as unset."""
    read: dict[str, Any] = {}
    for name in Settings.__dataclass_fields__:
        if text := _text(environ, name):
            try:
                read[name] = _READERS[name](text if name in _ANY_TEXT else values.one_word(text))
            except Refused as refused:
                raise SettingError(f"{variable(name)} {refused}") from None
    return Settings(**read)


def _text(environ: Mapping[str, str], name: str) -> str | None:
    if name not in SECRETS:
        return environ.get(variable(name))
    try:
        return secret_text(environ, variable(name))
    except SecretFileFault as fault:
        raise SettingError(str(fault)) from None


_PATHS = ("pages", "followups", "destinations", "spool_dir", "receipts", "state_dir", "log_file")
_PEM_FILES = ("kafka_ca_file", "kafka_cert_file", "kafka_key_file", "schema_registry_ca_file")
# A password or the name of a file may have any character, and blanks may be around the commas between secrets.
_ANY_TEXT = {"app_secrets", "kafka_sasl_password", "schema_registry_password", "warehouse", *_PATHS, *_PEM_FILES}
_READERS: Mapping[str, Callable[[str], object]] = {
    **dict.fromkeys((*_PATHS, *_PEM_FILES), values.path),
    **dict.fromkeys(("port", "admin_port"), values.whole_number(0, LAST_PORT)),
    **dict.fromkeys(("kafka_sasl_username", "verify_token"), values.one_word),
    **dict.fromkeys(
        ("kafka_sasl_password", "schema_registry_password"),
        values.checked(str.isprintable, "has a line break, or another character that cannot be seen: take it off"),
    ),
    **dict.fromkeys(("log_bytes", "spool_bytes"), values.whole_number(2**20, 2**50)),
    **dict.fromkeys(("canary", "keep_alive", "retention"), values.duration),
    "admin_host": values.ip_address,
    "app_id": values.matching("[0-9]{1,32}", "must be the number that the App Dashboard shows"),
    "app_secrets": values.secrets,
    "broker": values.kafka_servers,
    "console_token": values.matching(
        "[!-~]{16,200}", "must be 16 to 200 letters, digits and signs: `openssl rand -hex 24` makes one"
    ),
    "graph_url": values.checked(
        values.is_graph_address,
        "must be an https address such as https://graph.facebook.com, or http on loopback or to "
        "a container's name without a dot: access tokens are sent there",
    ),
    "graph_version": values.matching(r"v[0-9]{1,3}\.[0-9]{1,3}", "must be a version of the Graph API such as v25.0"),
    "host": values.checked(
        values.is_host, "must be an IP address or the name of a host, such as 127.0.0.1 or ::, without a port"
    ),
    "kafka_oauth_token_command": values.checked(
        values.is_command, "must be a command with its arguments, quoted as for a shell"
    ),
    "kafka_port": values.whole_number(1, LAST_PORT),
    "kafka_sasl_mechanism": values.one_of("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"),
    "kafka_security_protocol": values.one_of("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"),
    "partitions": values.whole_number(1, 10_000),
    "public_url": values.public_address,
    "replication": values.whole_number(1, 100),
    "schema_registry_url": values.registry_address,
    # https://www.rfc-editor.org/rfc/rfc7617#section-2
    "schema_registry_username": values.checked(lambda text: ":" not in text, "must not have a colon"),
    # Kafka allows 249 of these characters; the names of topics, replays and groups follow the prefix.
    "topic_prefix": values.matching(
        "[A-Za-z0-9._-]{1,100}", "must be up to 100 letters, digits, dots, dashes and underscores, as Kafka's names are"
    ),
    "warehouse": values.warehouse,
}
