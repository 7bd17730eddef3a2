"""Why a connection to Kafka fails: aiokafka's clients only say that they found no server."""

import asyncio
import os
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from aiokafka.conn import AIOKafkaConnection
from aiokafka.errors import (
    IllegalSaslStateError,
    KafkaConnectionError,
    KafkaError,
    SaslAuthenticationFailed,
    UnsupportedSaslMechanismError,
)
from aiokafka.protocol.admin import SaslHandShakeRequest
from aiokafka.protocol.metadata import MetadataRequest

from runtime.cluster import Cluster
from runtime.kafka import NotKafkasAnswer, only_kafkas_answers
from runtime.oauth_token import NoToken
from runtime.settings import variable

_SECONDS = 10.0
_CLOSES_WITHIN = 1.0
_PORT = 9092
_PROTOCOL, _CA, _CERT = (variable(f"kafka_{name}") for name in ("security_protocol", "ca_file", "cert_file"))
_USER, _PASSWORD = variable("kafka_sasl_username"), variable("kafka_sasl_password")
# The first byte of a TLS alert; Kafka's own answers begin with their length, which is never so large.
_TLS_ALERT = 0x15
_OTHER_NAME = "has a certificate for another name ({0}): use a name that is in it"
_UNKNOWN_AUTHORITY = (
    f"has a certificate of an authority that is unknown here: set {_CA} to that authority's certificate"
)
# By X509_V_ERR_… of OpenSSL's x509_vfy.h.
_OF_CERTIFICATES: Mapping[int, str] = {
    9: "has a certificate that is not valid yet: is this machine's clock right?",
    10: "has a certificate that has expired: renew it there",
    **dict.fromkeys((18, 19, 20, 21), _UNKNOWN_AUTHORITY),
    **dict.fromkeys((62, 64), _OTHER_NAME),
}


@dataclass(frozen=True, slots=True)
class Fault:
    """Why we cannot connect, in one line. `away`: nothing answers, which may pass by itself; otherwise a setting must
    change, here or there."""

    text: str
    away: bool = False

    def __str__(self) -> str:
        return self.text


async def find_fault(cluster: Cluster) -> Fault | None:
    """Why we cannot connect; None where each node that the cluster names can be reached.

    One of the servers must answer; clients then talk to the nodes that it names.
    """
    faults: list[Fault] = []
    for server in map(_host_and_port, cluster.servers.split(",")):
        nodes = await _nodes(cluster, *server)
        if isinstance(nodes, Fault):
            faults.append(nodes)
            continue
        for node in sorted(nodes - {server}):
            if isinstance(fault := await _nodes(cluster, *node), Fault):
                return Fault(f"{fault}; the cluster names this node in its advertised.listeners", fault.away)
        return None
    return next((fault for fault in faults if not fault.away), faults[0])


async def _nodes(cluster: Cluster, host: str, port: int) -> set[tuple[str, int]] | Fault:
    """The nodes as this server names them after the login, or why it does not."""
    try:
        async with asyncio.timeout(_SECONDS):
            async with _connected(host, port, cluster.options) as connection:
                answer = await connection.send(MetadataRequest([]))
        if not answer.brokers:
            # The answer to a client whose token was refused, which aiokafka does not notice.
            raise KafkaConnectionError("no nodes")
    except (KafkaError, OSError, TimeoutError) as error:
        return await _explain(cluster, host, port, error)
    return {(node_host, node_port) for _, node_host, node_port, *_ in answer.brokers}


@asynccontextmanager
async def _connected(host: str, port: int, options: dict[str, Any]) -> AsyncIterator[AIOKafkaConnection]:
    own = {name: value for name, value in options.items() if name != "bootstrap_servers"}
    timeout = int(_SECONDS * 1000)
    connection = AIOKafkaConnection(host, port, client_id="leadstream-probe", request_timeout_ms=timeout, **own)
    try:
        with only_kafkas_answers():
            await connection.connect()
            yield connection
    finally:
        closed = connection.close()
        if connection._protocol is not None:
            # The loop may end right after this, and would leave the socket open.
            await asyncio.wait([closed], timeout=_CLOSES_WITHIN)


async def _explain(cluster: Cluster, host: str, port: int, error: BaseException) -> Fault:
    where = f"Kafka at {host}:{port}"
    if isinstance(error, NotKafkasAnswer):
        return Fault(f"the program at {host}:{port} does not answer as Kafka does: see {variable('broker')}", away=True)
    if isinstance(error, UnsupportedSaslMechanismError):
        return Fault(f"{where} does not offer {cluster.mechanism}, only {await _offered(cluster, host, port)}")
    seen = error.__cause__ or error
    if isinstance(seen, ssl.SSLError):
        return Fault(f"{where} {_of_tls(cluster, seen)}")
    if (refusal := _of_sasl(cluster, error)) is not None:
        return Fault(f"{where} {refusal}")
    if isinstance(error, NoToken):
        return Fault(f"{error.args[0]}, so that {where} does not let us in")
    return _of_connection(cluster, where, error, seen) or _away(host, port, error)


def _of_tls(cluster: Cluster, error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        other = "has a certificate that does not hold ({0})"
        return _OF_CERTIFICATES.get(error.verify_code, other).format(error.verify_message.rstrip("."))
    reason = (error.reason or "").replace("_", " ").lower()
    if "certificate" in reason or "unknown ca" in reason or "handshake failure" in reason:
        if not cluster.has_certificate:
            return f"asks for a client certificate: set {_CERT} and {variable('kafka_key_file')}"
        return (
            f"refuses the client certificate of {_CERT} ({reason}): it has expired, or its authority is unknown there"
        )
    return f"ends the TLS handshake ({reason}): does this port speak TLS? {_PROTOCOL} is {cluster.protocol}"


def _of_sasl(cluster: Cluster, error: BaseException) -> str | None:
    if isinstance(error, SaslAuthenticationFailed):
        if cluster.tokens is not None:
            return f"refuses the token of {variable('kafka_oauth_token_command')}"
        return f"refuses user {cluster.username} with this password: see {_USER} and {_PASSWORD}"
    if isinstance(error, IllegalSaslStateError):
        other = cluster.protocol.removeprefix("SASL_")
        return f"takes no SASL at this port: {_PROTOCOL} is {cluster.protocol}, use {other}"
    return None


def _of_connection(cluster: Cluster, where: str, error: BaseException, seen: BaseException) -> Fault | None:
    if isinstance(seen, asyncio.IncompleteReadError) and (seen.expected or 0) >> 24 == _TLS_ALERT:
        return Fault(f"{where} speaks TLS: {_PROTOCOL} is {cluster.protocol}, use SSL or SASL_SSL")
    closed = isinstance(error, KafkaError | ConnectionResetError | ConnectionAbortedError)
    if closed and isinstance(error, OSError) and cluster.tls is not None:
        return Fault(
            f"{where} ends the TLS handshake: it is still starting, or it expects no TLS, and {_PROTOCOL} is "
            f"{cluster.protocol}"
        )
    if closed and cluster.tokens is not None:
        return Fault(
            f"{where} ends the connection at the login: it is still starting, or it refuses the token of "
            f"{variable('kafka_oauth_token_command')}"
        )
    if closed and cluster.mechanism is None and not isinstance(error, OSError):
        # A port that is forwarded to a container is open before Kafka in it listens.
        return Fault(
            f"{where} ends the connection without an answer: it is still starting, or it expects TLS or SASL, and "
            f"{_PROTOCOL} is {cluster.protocol}"
        )
    return None


def _away(host: str, port: int, error: BaseException) -> Fault:
    number = error.errno if isinstance(error, OSError) else None
    reason = os.strerror(number) if number is not None and number > 0 else str(error) or type(error).__name__
    hint = f"see `leadstream kafka status` or {variable('broker')}"
    return Fault(f"Kafka does not answer at {host}:{port} ({reason}): {hint}", away=True)


async def _offered(cluster: Cluster, host: str, port: int) -> str:
    """The SASL mechanisms that a server offers."""
    plain = Cluster(cluster.servers, cluster.protocol.removeprefix("SASL_"), tls=cluster.tls)
    try:
        async with asyncio.timeout(_SECONDS):
            async with _connected(host, port, plain.options) as connection:
                answer = await connection.send(SaslHandShakeRequest(cluster.mechanism))
    except (KafkaError, OSError, TimeoutError):
        return "others"
    return ", ".join(sorted(answer.enabled_mechanisms))


def _host_and_port(server: str) -> tuple[str, int]:
    host, _, port = server.strip().rpartition(":")
    if not host or not port.isdigit():
        return server.strip().strip("[]"), _PORT
    return host.strip("[]"), int(port)
