"""A local Kafka as somebody else runs theirs: TLS, users, and nothing allowed that no ACL allows."""

import asyncio
import base64
import json
import os
import secrets
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)

from runtime.cluster import Cluster
from runtime.local_kafka.jars import find_java, kafka_jars
from runtime.local_kafka.node import answers
from runtime.ports import free_ports
from runtime.settings import PREFIX
from tests.certificates import Authority, Certificate

# What is behind which port. The certificate of all but EXPIRED is for `localhost`, and not for 127.0.0.1.
INTERNAL, SASL, MUTUAL, EXPIRED, CLEAR, CONTROLLER = range(6)
ADMIN = "admin"
_READY_WITHIN = 60.0
_JVM_OPTIONS = ("-Xms64m", "-Xmx320m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
_PROPERTIES = """
listeners=INTERNAL://127.0.0.1:$internal,SASL://127.0.0.1:$sasl,MUTUAL://127.0.0.1:$mutual,\\
EXPIRED://127.0.0.1:$expired,CLEAR://127.0.0.1:$clear,CONTROLLER://127.0.0.1:$controller
advertised.listeners=INTERNAL://127.0.0.1:$internal,SASL://localhost:$sasl,MUTUAL://localhost:$mutual,\\
EXPIRED://localhost:$expired,CLEAR://localhost:$clear
listener.security.protocol.map=INTERNAL:PLAINTEXT,CONTROLLER:PLAINTEXT,SASL:SASL_SSL,MUTUAL:SSL,EXPIRED:SASL_SSL,\\
CLEAR:SASL_PLAINTEXT
inter.broker.listener.name=INTERNAL
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
allow.everyone.if.no.acl.found=false
super.users=User:ANONYMOUS;User:admin
ssl.keystore.type=PEM
ssl.keystore.location=$server
ssl.truststore.type=PEM
ssl.truststore.location=$ca
listener.name.mutual.ssl.client.auth=required
ssl.principal.mapping.rules=RULE:^CN=([^,]+).*$$/$$1/
listener.name.expired.ssl.keystore.type=PEM
listener.name.expired.ssl.keystore.location=$expired_server
listener.name.sasl.sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER
listener.name.clear.sasl.enabled.mechanisms=SCRAM-SHA-512
listener.name.expired.sasl.enabled.mechanisms=SCRAM-SHA-512
listener.name.sasl.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required $plain;
listener.name.sasl.scram-sha-256.sasl.jaas.config=$scram
listener.name.sasl.scram-sha-512.sasl.jaas.config=$scram
listener.name.clear.scram-sha-512.sasl.jaas.config=$scram
listener.name.expired.scram-sha-512.sasl.jaas.config=$scram
listener.name.sasl.oauthbearer.sasl.jaas.config=org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule \\
required unsecuredLoginStringClaim_sub="broker";
listener.name.sasl.oauthbearer.sasl.server.callback.handler.class=\\
org.apache.kafka.common.security.oauthbearer.internals.unsecured.OAuthBearerUnsecuredValidatorCallbackHandler
"""
_SCRAM = "org.apache.kafka.common.security.scram.ScramLoginModule required;"


@dataclass(slots=True)
class SecuredKafka:
    """One node on the loopback address, whose files only we can read. `users` can come in by each way."""

    home: Path
    users: tuple[str, ...]
    ports: range = field(default_factory=lambda: _in_a_row(free_ports(CONTROLLER + 1)))
    passwords: dict[str, str] = field(default_factory=dict)
    authority: Authority = field(init=False)

    def __post_init__(self) -> None:
        self.home.mkdir(mode=0o700, exist_ok=True)
        self.authority = Authority(self.home / "certificates")
        self.passwords = {user: secrets.token_hex(16) for user in (ADMIN, *self.users)}

    @property
    def internal(self) -> Cluster:
        """The way in of a super user, for what a test prepares."""
        return Cluster(f"127.0.0.1:{self.ports[INTERNAL]}")

    def address(self, listener: int) -> str:
        return f"localhost:{self.ports[listener]}"

    def certificate(self, user: str) -> Certificate:
        return self.authority.issue(user)

    def settings(self, user: str, mechanism: str = "SCRAM-SHA-512", listener: int = SASL) -> dict[str, str]:
        """The environment of a leadstream that comes in as this user; a `mechanism` MUTUAL stands for mutual TLS."""
        if mechanism == "MUTUAL":
            own = self.certificate(user)
            said = {"SECURITY_PROTOCOL": "SSL", "CERT_FILE": str(own.cert), "KEY_FILE": str(own.key)}
            listener = MUTUAL
        elif mechanism == "OAUTHBEARER":
            command = shlex.join([sys.executable, "-c", f"print({unsecured_token(user)!r})"])
            said = {"SECURITY_PROTOCOL": "SASL_SSL", "SASL_MECHANISM": mechanism, "OAUTH_TOKEN_COMMAND": command}
        else:
            said = {"SECURITY_PROTOCOL": "SASL_SSL", "SASL_MECHANISM": mechanism}
            said |= {"SASL_USERNAME": user, "SASL_PASSWORD": self.passwords[user]}
        if listener == CLEAR:
            said["SECURITY_PROTOCOL"] = "SASL_PLAINTEXT"
        else:
            said["CA_FILE"] = str(self.authority.file)
        named = {f"{PREFIX}KAFKA_{name}": value for name, value in said.items()}
        return {f"{PREFIX}BROKER": self.address(listener), **named}

    def allow(self, commands: Iterable[str]) -> None:
        """Put into force what these `kafka-acls.sh` commands say."""
        admin = AdminClient({"bootstrap.servers": self.internal.servers})
        bindings = [binding for command in commands for binding in _bindings(command)]
        for done in admin.create_acls(bindings).values():
            done.result(timeout=30)
        _until(lambda: set(bindings) <= set(_in_force(admin)))

    def forbid(self, commands: Iterable[str]) -> None:
        """Take away what these commands allowed."""
        admin, commands = AdminClient({"bootstrap.servers": self.internal.servers}), list(commands)
        for done in admin.delete_acls([rule for command in commands for rule in _filters(command)]).values():
            done.result(timeout=30)
        gone = {binding for command in commands for binding in _bindings(command)}
        _until(lambda: gone.isdisjoint(_in_force(admin)))

    def _configure(self) -> Path:
        template = Template((files("runtime.local_kafka") / "node.properties").read_text())
        names = ("internal", "sasl", "mutual", "expired", "clear", "controller")
        ports = dict(zip(names, self.ports, strict=True))
        common = template.substitute(
            port=ports["internal"], controller_port=ports["controller"], data=self.home / "data"
        )
        secured = Template(_PROPERTIES).substitute(
            ports,
            ca=self.authority.file,
            server=self.authority.issue("server", hosts=("localhost",)).both,
            expired_server=self.authority.issue("expired", hosts=("localhost",), lasts=-timedelta(hours=1)).both,
            plain=" ".join(f'user_{user}="{password}"' for user, password in self.passwords.items()),
            scram=_SCRAM,
        )
        config = self.home / "server.properties"
        config.touch(mode=0o600)
        config.write_text(common + secured)
        return config

    def start(self) -> "subprocess.Popen[bytes]":
        java, version = find_java(os.environ)
        jars = kafka_jars(os.environ, lambda _: None)
        logging = self.home / "log4j2.xml"
        logging.write_text((files("runtime.local_kafka") / "node.log4j2.xml").read_text())
        classes = jars / f"loaded-{version}.jsa"
        shared = [f"-XX:SharedArchiveFile={classes}"] if classes.exists() else []
        program = [java, *shared, *_JVM_OPTIONS, f"-Dlog4j2.configurationFile={logging}", "-cp", f"{jars}/*"]
        config = self._configure()
        users = [
            f"{mechanism}=[name={user},password={password}]"
            for user, password in self.passwords.items()
            for mechanism in ("SCRAM-SHA-256", "SCRAM-SHA-512")
        ]
        tool = ["kafka.tools.StorageTool", "format", "--cluster-id", "L" + secrets.token_urlsafe(16)[1:]]
        scram = [part for user in users for part in ("--add-scram", user)]
        made = subprocess.run([*program, *tool, "--config", str(config), *scram], capture_output=True, text=True)
        assert made.returncode == 0, made.stdout + made.stderr
        with (self.home / "kafka.log").open("wb") as log:
            return subprocess.Popen(
                [*program, "kafka.Kafka", str(config)], stdout=log, stderr=log, start_new_session=True
            )


@contextmanager
def running(home: Path, users: Iterable[str]) -> Iterator[SecuredKafka]:
    """A node that answers; killed in the end."""
    kafka = SecuredKafka(home, tuple(users))
    node = kafka.start()
    try:
        deadline = time.monotonic() + _READY_WITHIN
        while not (_listens(kafka.ports[INTERNAL]) and asyncio.run(answers(kafka.internal))):
            assert node.poll() is None, (home / "kafka.log").read_text()
            assert time.monotonic() < deadline, "Kafka does not answer"
            time.sleep(0.1)
        yield kafka
    finally:
        node.kill()
        node.wait()


def unsecured_token(user: str, lasts: float = 3600) -> str:
    """A JWT that nobody signed, which the test node takes."""
    now = time.time()
    parts = {"alg": "none"}, {"sub": user, "iat": now, "exp": now + lasts}
    encoded = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in parts]
    return ".".join((*encoded, ""))


def _until(holds: Callable[[], bool]) -> None:
    """A node learns a little later what the controller has agreed to."""
    deadline = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline, "the ACLs are not in force"
        time.sleep(0.05)


def _in_force(admin: AdminClient) -> list[AclBinding]:
    anything: Any = None
    every = AclBindingFilter(
        ResourceType.ANY,
        anything,
        ResourcePatternType.ANY,
        anything,
        anything,
        AclOperation.ANY,
        AclPermissionType.ANY,
    )
    return list(admin.describe_acls(every).result(timeout=30))


def _bindings(command: str) -> list[AclBinding]:
    return [
        AclBinding(kind, name, pattern, principal, "*", operation, AclPermissionType.ALLOW)
        for kind, name, pattern, principal, operation in _operations_of(command)
    ]


def _filters(command: str) -> list[AclBindingFilter]:
    return [
        AclBindingFilter(kind, name, pattern, principal, "*", operation, AclPermissionType.ALLOW)
        for kind, name, pattern, principal, operation in _operations_of(command)
    ]


def _operations_of(command: str) -> Iterator[tuple[ResourceType, str, ResourcePatternType, str, AclOperation]]:
    """What `kafka-acls.sh --add` would do: each operation on each resource."""
    words = iter(shlex.split(command))
    given: dict[str, list[str]] = {}
    for word in words:
        if word.startswith("--") and word not in ("--add", "--cluster"):
            given.setdefault(word, []).append(next(words))
        elif word == "--cluster":
            given["--cluster"] = ["kafka-cluster"]
    pattern = ResourcePatternType[given.get("--resource-pattern-type", ["literal"])[0].upper()]
    kinds = {"--topic": ResourceType.TOPIC, "--group": ResourceType.GROUP, "--cluster": ResourceType.BROKER}
    for option, kind in kinds.items():
        for name in given.get(option, ()):
            for operation in given["--operation"]:
                [principal] = given["--allow-principal"]
                yield kind, name, pattern, principal, _operation(operation)


def _operation(name: str) -> AclOperation:
    spelt = "".join(f"_{letter}" if letter.isupper() else letter.upper() for letter in name).lstrip("_")
    return AclOperation[spelt]


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _in_a_row(first: int) -> range:
    return range(first, first + CONTROLLER + 1)
