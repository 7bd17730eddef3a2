"""The Kafka cluster and its security: settings become the options of aiokafka's clients here."""

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient

from runtime.file_faults import reason
from runtime.loopback import is_loopback
from runtime.oauth_token import TokenCommand
from runtime.settings import SettingError, Settings, variable

_OAUTH = "OAUTHBEARER"
# These send the secret itself; SCRAM only proves that it is known.
_SENDS_SECRET = ("PLAIN", _OAUTH)
_FILES = ("kafka_ca_file", "kafka_cert_file", "kafka_key_file")
_SASL = ("kafka_sasl_mechanism", "kafka_sasl_username", "kafka_sasl_password", "kafka_oauth_token_command")
SECURITY_SETTINGS = ("kafka_security_protocol", *_SASL, *_FILES)


@dataclass(frozen=True, slots=True)
class Cluster:
    """A Kafka cluster, `host:port` and more with commas, and how clients log in. Neither `str` nor `repr` shows a
    secret."""

    servers: str
    protocol: str = "PLAINTEXT"
    mechanism: str | None = None
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: ssl.SSLContext | None = field(default=None, repr=False)
    has_certificate: bool = False
    tokens: TokenCommand | None = field(default=None, repr=False)

    def __str__(self) -> str:
        return self.servers

    @property
    def principal(self) -> str:
        """Our principal in Kafka's ACLs, as far as the settings show it."""
        return f"User:{self.username}" if self.username else "this client"

    @property
    def options(self) -> dict[str, Any]:
        """The options that every client of aiokafka takes."""
        options: dict[str, Any] = {"bootstrap_servers": self.servers, "security_protocol": self.protocol}
        if self.tls is not None:
            options["ssl_context"] = self.tls
        if self.mechanism is not None:
            options |= {"sasl_mechanism": self.mechanism}
            options |= {"sasl_plain_username": self.username, "sasl_plain_password": self.password}
            options |= {"sasl_oauth_token_provider": self.tokens}
        return options


@asynccontextmanager
async def admin_client(cluster: Cluster, **options: Any) -> AsyncIterator[AIOKafkaAdminClient]:
    admin = AIOKafkaAdminClient(**cluster.options, **options)
    try:
        await admin.start()
        yield admin
    finally:
        await admin.close()


def cluster_of(settings: Settings) -> Cluster:
    """The Kafka of `LEADSTREAM_BROKER`. Raises `SettingError` for contradicting settings of its security.

    The files are read once: a new certificate needs a restart.
    """
    settings.require("broker")
    servers, protocol = str(settings.broker), settings.kafka_security_protocol
    mechanism = _mechanism_of(settings)
    if protocol == "SASL_PLAINTEXT" and mechanism in _SENDS_SECRET and not all(map(_is_loopback, servers.split(","))):
        raise SettingError(
            f"{variable('kafka_security_protocol')}=SASL_PLAINTEXT would send the secret of {mechanism} over the "
            "network in clear text: use SASL_SSL"
        )
    command = settings.kafka_oauth_token_command
    return Cluster(
        servers,
        protocol,
        mechanism,
        settings.kafka_sasl_username,
        settings.kafka_sasl_password,
        _tls_of(settings),
        has_certificate=settings.kafka_cert_file is not None,
        tokens=TokenCommand(command) if command is not None else None,
    )


def local_cluster(settings: Settings, servers: str) -> Cluster:
    """The local node, which has no security. Raises `SettingError` where the settings ask for it."""
    for name in (*_FILES, *_SASL, "kafka_security_protocol"):
        _refuse_without(settings, name, f"{variable('broker')}: the local Kafka has no security")
    return Cluster(servers)


def _mechanism_of(settings: Settings) -> str | None:
    mechanism = settings.kafka_sasl_mechanism
    if not settings.kafka_security_protocol.startswith("SASL_"):
        for name in _SASL:
            _refuse_without(settings, name, f"SASL: set {variable('kafka_security_protocol')}=SASL_SSL")
        return None
    settings.require("kafka_sasl_mechanism")
    if mechanism == _OAUTH:
        settings.require("kafka_oauth_token_command")
        for name in ("kafka_sasl_username", "kafka_sasl_password"):
            _refuse_without(settings, name, f"a mechanism that uses it: {_OAUTH} has a token")
    else:
        settings.require("kafka_sasl_username", "kafka_sasl_password")
        _refuse_without(settings, "kafka_oauth_token_command", f"{variable('kafka_sasl_mechanism')}={_OAUTH}")
    return mechanism


def _refuse_without(settings: Settings, name: str, other: str) -> None:
    if getattr(settings, name) != getattr(Settings(), name):
        raise SettingError(f"{variable(name)} is set without {other}")


def _tls_of(settings: Settings) -> ssl.SSLContext | None:
    if not settings.kafka_security_protocol.endswith("SSL"):
        for name in _FILES:
            _refuse_without(settings, name, f"TLS: set {variable('kafka_security_protocol')} to SSL or SASL_SSL")
        return None
    context = ssl.create_default_context()
    ca, cert, key = (_readable(name, getattr(settings, name)) for name in _FILES)
    if ca is not None:
        try:
            context = ssl.create_default_context(cafile=ca)
        except ssl.SSLError:
            raise SettingError(f"{variable('kafka_ca_file')}: {ca} holds no certificate in PEM form") from None
    if cert is not None:
        settings.require("kafka_key_file")
        _load_certificate(context, cert, key)
    else:
        _refuse_without(settings, "kafka_key_file", variable("kafka_cert_file"))
    return context


def _readable(name: str, path: Path | None) -> Path | None:
    try:
        if path is not None:
            path.read_bytes()
    except OSError as fault:
        raise SettingError(f"{variable(name)}: cannot read {path}: {reason(fault)}") from None
    return path


def _load_certificate(context: ssl.SSLContext, cert: Path, key: Path | None) -> None:
    def refuse() -> str:
        # Without this OpenSSL asks for the passphrase on the terminal.
        raise SettingError(f"{variable('kafka_key_file')}: {key} is encrypted: give a key without a passphrase")

    try:
        context.load_cert_chain(cert, key, password=refuse)
    except ssl.SSLError as fault:
        if fault.reason == "KEY_VALUES_MISMATCH":
            raise SettingError(
                f"{variable('kafka_key_file')}: {key} is not the key of the certificate in {cert}"
            ) from None
        raise SettingError(
            f"{variable('kafka_cert_file')}: {cert} and {key} are not a certificate and its key in PEM form"
        ) from None


def _is_loopback(server: str) -> bool:
    return is_loopback(server.strip().rpartition(":")[0].strip("[]") or server.strip())
