"""Settings become a way into Kafka, or one line that says which of them does not go with the others."""

import os
import ssl
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from runtime.cluster import Cluster, cluster_of, local_cluster
from runtime.settings import SettingError, Settings, read_settings
from tests.certificates import Authority

PLAIN = {"SECURITY_PROTOCOL": "SASL_SSL", "SASL_MECHANISM": "PLAIN", "SASL_USERNAME": "key", "SASL_PASSWORD": "planted"}
TOKEN = {"SECURITY_PROTOCOL": "SASL_SSL", "SASL_MECHANISM": "OAUTHBEARER", "OAUTH_TOKEN_COMMAND": "get-token --quiet"}


def made(said: dict[str, str], broker: str = "kafka.example.com:9093") -> Cluster:
    named = {f"LEADSTREAM_KAFKA_{name}": value for name, value in said.items()}
    return cluster_of(read_settings({"LEADSTREAM_BROKER": broker, **named}))


def refusal(said: dict[str, str], broker: str = "kafka.example.com:9093") -> str:
    with pytest.raises(SettingError) as fault:
        made(said, broker)
    assert "planted" not in str(fault.value)
    return str(fault.value)


def without(said: dict[str, str], name: str) -> dict[str, str]:
    return {key: value for key, value in said.items() if key != name}


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates") / "private")


def test_without_security_the_options_are_those_of_plain_text() -> None:
    assert made({}).options == {"bootstrap_servers": "kafka.example.com:9093", "security_protocol": "PLAINTEXT"}


def test_a_password_goes_into_the_options_and_is_never_shown() -> None:
    cluster = made(PLAIN)

    assert cluster.options["sasl_plain_password"] == "planted"
    assert "planted" not in f"{cluster} {cluster!r} {read_settings({'LEADSTREAM_KAFKA_SASL_PASSWORD': 'planted'})!r}"
    assert (str(cluster), cluster.principal) == ("kafka.example.com:9093", "User:key")


def test_tls_verifies_the_certificate_and_the_name_and_trusts_the_file_that_is_named(authority: Authority) -> None:
    context = made({"SECURITY_PROTOCOL": "SSL", "CA_FILE": str(authority.file)}).options["ssl_context"]

    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
    [trusted] = context.get_ca_certs()
    assert trusted["subject"] == ((("commonName", "Test CA"),),)


def test_mutual_tls_takes_a_certificate_and_its_key(authority: Authority) -> None:
    own = authority.issue("ours")

    assert made({"SECURITY_PROTOCOL": "SSL", "CERT_FILE": str(own.cert), "KEY_FILE": str(own.key)}).has_certificate


@pytest.mark.parametrize(
    ("name", "text", "shown"),
    [
        ("SECURITY_PROTOCOL", "TLS", "must be one of PLAINTEXT, SSL, SASL_PLAINTEXT, SASL_SSL"),
        ("SASL_MECHANISM", "GSSAPI", "must be one of PLAIN, SCRAM-SHA-256, SCRAM-SHA-512, OAUTHBEARER"),
        ("OAUTH_TOKEN_COMMAND", "get 'planted", "must be a command with its arguments, quoted as for a shell"),
    ],
)
def test_a_value_that_is_none_is_refused_by_its_variable(name: str, text: str, shown: str) -> None:
    assert refusal({name: text}) == f"LEADSTREAM_KAFKA_{name} {shown}"


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        (without(PLAIN, "SECURITY_PROTOCOL"), "SASL_MECHANISM is set without SASL: set"),
        ({"SASL_PASSWORD": "planted"}, "SASL_PASSWORD is set without SASL: set"),
        (without(PLAIN, "SASL_MECHANISM"), "SASL_MECHANISM is not set"),
        (without(PLAIN, "SASL_USERNAME"), "SASL_USERNAME is not set"),
        (without(PLAIN, "SASL_PASSWORD"), "SASL_PASSWORD is not set"),
        (without(TOKEN, "OAUTH_TOKEN_COMMAND"), "OAUTH_TOKEN_COMMAND is not set"),
        ({**TOKEN, "SASL_PASSWORD": "planted"}, "SASL_PASSWORD is set without a mechanism that uses it"),
        ({**PLAIN, "OAUTH_TOKEN_COMMAND": "get"}, "OAUTH_TOKEN_COMMAND is set without"),
        ({"CA_FILE": "ca.pem"}, "CA_FILE is set without TLS: set"),
        ({"SECURITY_PROTOCOL": "SSL", "KEY_FILE": __file__}, "KEY_FILE is set without LEADSTREAM_KAFKA_CERT_FILE"),
        ({"SECURITY_PROTOCOL": "SSL", "CERT_FILE": __file__}, "KEY_FILE is not set"),
        ({"SECURITY_PROTOCOL": "SSL", "CA_FILE": "/none.pem"}, "CA_FILE: cannot read /none.pem: No such file"),
        ({"SECURITY_PROTOCOL": "SSL", "CA_FILE": "/"}, "CA_FILE: cannot read /: Is a directory"),
        ({"SECURITY_PROTOCOL": "SSL", "CA_FILE": __file__}, f"CA_FILE: {__file__} holds no certificate in PEM form"),
        (
            {"SECURITY_PROTOCOL": "SSL", "CERT_FILE": __file__, "KEY_FILE": __file__},
            f"CERT_FILE: {__file__} and {__file__} are not a certificate and its key in PEM form",
        ),
    ],
)
def test_settings_that_do_not_go_together_are_one_line(said: dict[str, str], shown: str) -> None:
    assert refusal(said).startswith(f"LEADSTREAM_KAFKA_{shown}")


def test_the_key_of_another_certificate_is_refused(authority: Authority) -> None:
    own, other = authority.issue("one"), authority.issue("other")
    said = {"SECURITY_PROTOCOL": "SSL", "CERT_FILE": str(own.cert), "KEY_FILE": str(other.key)}

    assert refusal(said) == f"LEADSTREAM_KAFKA_KEY_FILE: {other.key} is not the key of the certificate in {own.cert}"


def test_an_encrypted_key_is_refused_and_no_passphrase_is_asked_for(authority: Authority, tmp_path: Path) -> None:
    own, locked = authority.issue("locked"), tmp_path / "locked.key"
    key = serialization.load_pem_private_key(own.key.read_bytes(), None)
    encryption = serialization.BestAvailableEncryption(b"planted")
    locked.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption))
    said = {"SECURITY_PROTOCOL": "SSL", "CERT_FILE": str(own.cert), "KEY_FILE": str(locked)}

    assert refusal(said).endswith(f"{locked} is encrypted: give a key without a passphrase")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_refused(authority: Authority, tmp_path: Path) -> None:
    closed = tmp_path / "ca.pem"
    closed.touch(mode=0)

    assert "Permission denied" in refusal({"SECURITY_PROTOCOL": "SSL", "CA_FILE": str(closed)})


@pytest.mark.parametrize("mechanism", ["PLAIN", "OAUTHBEARER"])
def test_a_secret_in_clear_text_is_refused_unless_it_stays_on_this_machine(mechanism: str) -> None:
    said = {**(PLAIN if mechanism == "PLAIN" else TOKEN), "SECURITY_PROTOCOL": "SASL_PLAINTEXT"}

    assert "in clear text: use SASL_SSL" in refusal(said, "127.0.0.1:9092,10.0.0.1:9092")
    assert made(said, "localhost:9092, 127.0.0.1:9092,[::1]:9092").mechanism == mechanism


def test_scram_needs_no_tls_for_the_password_does_not_cross_the_network() -> None:
    assert made({**PLAIN, "SECURITY_PROTOCOL": "SASL_PLAINTEXT", "SASL_MECHANISM": "SCRAM-SHA-256"}).tls is None


def test_the_local_node_takes_no_security() -> None:
    assert local_cluster(Settings(), "127.0.0.1:9092") == Cluster("127.0.0.1:9092")
    for setting in (Settings(kafka_sasl_username="u"), Settings(kafka_security_protocol="SSL")):
        with pytest.raises(SettingError, match="without LEADSTREAM_BROKER: the local Kafka has no security"):
            local_cluster(setting, "127.0.0.1:9092")
