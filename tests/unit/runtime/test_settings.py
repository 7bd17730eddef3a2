"""Settings are read once; a wrong one is refused by the name of its variable and never shown."""

from datetime import timedelta
from pathlib import Path

import pytest

from runtime.settings import SECRETS, SettingError, Settings, read_settings, variable


def test_nothing_given_means_the_defaults() -> None:
    assert read_settings({}) == Settings()


def test_every_setting_is_read_from_its_variable() -> None:
    given = {
        "LEADSTREAM_BROKER": "kafka:9092",
        "LEADSTREAM_KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
        "LEADSTREAM_KAFKA_SASL_MECHANISM": "SCRAM-SHA-512",
        "LEADSTREAM_KAFKA_SASL_USERNAME": "streams",
        "LEADSTREAM_KAFKA_SASL_PASSWORD": "a password",
        "LEADSTREAM_KAFKA_OAUTH_TOKEN_COMMAND": "get-token --audience 'my kafka'",
        "LEADSTREAM_KAFKA_CA_FILE": "ca.pem",
        "LEADSTREAM_KAFKA_CERT_FILE": "cert.pem",
        "LEADSTREAM_KAFKA_KEY_FILE": "key.pem",
        "LEADSTREAM_KAFKA_PORT": "19092",
        "LEADSTREAM_SCHEMA_REGISTRY_URL": "http://registry:8080",
        "LEADSTREAM_SCHEMA_REGISTRY_USERNAME": "streams",
        "LEADSTREAM_SCHEMA_REGISTRY_PASSWORD": "a: password",
        "LEADSTREAM_SCHEMA_REGISTRY_CA_FILE": "registry.pem",
        "LEADSTREAM_APP_ID": "2262510160704936",
        "LEADSTREAM_APP_SECRET": "new, old",
        "LEADSTREAM_VERIFY_TOKEN": "verify",
        "LEADSTREAM_PAGES": "my/pages.yaml",
        "LEADSTREAM_FOLLOWUPS": "my/followups.yaml",
        "LEADSTREAM_DESTINATIONS": "my/destinations.yaml",
        "LEADSTREAM_GRAPH_URL": "http://127.0.0.1:8090",
        "LEADSTREAM_GRAPH_VERSION": "v26.0",
        "LEADSTREAM_WAREHOUSE": "postgresql://db/leads",
        "LEADSTREAM_HOST": "0.0.0.0",
        "LEADSTREAM_PORT": "80",
        "LEADSTREAM_ADMIN_HOST": "0.0.0.0",
        "LEADSTREAM_ADMIN_PORT": "0",
        "LEADSTREAM_CANARY": "60s",
        "LEADSTREAM_CONSOLE_TOKEN": "a-token-of-sixteen",
        "LEADSTREAM_PUBLIC_URL": "https://leads.example.com:8443/in/",
        "LEADSTREAM_KEEP_ALIVE": "620s",
        "LEADSTREAM_LOG_FILE": "ingest.log",
        "LEADSTREAM_LOG_BYTES": "1048576",
        "LEADSTREAM_SPOOL_DIR": "spool",
        "LEADSTREAM_SPOOL_BYTES": "1048576",
        "LEADSTREAM_RECEIPTS": "receipts.log",
        "LEADSTREAM_STATE_DIR": "state",
        "LEADSTREAM_PARTITIONS": "64",
        "LEADSTREAM_REPLICATION": "3",
        "LEADSTREAM_TOPIC_PREFIX": "eu-",
        "LEADSTREAM_RETENTION": "90d",
    }

    settings = read_settings(given)

    assert given.keys() == {variable(name) for name in Settings.__dataclass_fields__}
    assert settings == Settings(
        broker="kafka:9092",
        kafka_security_protocol="SASL_SSL",
        kafka_sasl_mechanism="SCRAM-SHA-512",
        kafka_sasl_username="streams",
        kafka_sasl_password="a password",
        kafka_oauth_token_command="get-token --audience 'my kafka'",
        kafka_ca_file=Path("ca.pem"),
        kafka_cert_file=Path("cert.pem"),
        kafka_key_file=Path("key.pem"),
        kafka_port=19092,
        schema_registry_url="http://registry:8080",
        schema_registry_username="streams",
        schema_registry_password="a: password",
        schema_registry_ca_file=Path("registry.pem"),
        app_id="2262510160704936",
        app_secrets=("new", "old"),
        verify_token="verify",
        pages=Path("my/pages.yaml"),
        followups=Path("my/followups.yaml"),
        destinations=Path("my/destinations.yaml"),
        graph_url="http://127.0.0.1:8090",
        graph_version="v26.0",
        warehouse="postgresql://db/leads",
        host="0.0.0.0",
        port=80,
        admin_host="0.0.0.0",
        admin_port=0,
        canary=timedelta(seconds=60),
        console_token="a-token-of-sixteen",
        public_url="https://leads.example.com:8443/in",
        keep_alive=timedelta(seconds=620),
        log_file=Path("ingest.log"),
        log_bytes=2**20,
        spool_dir=Path("spool"),
        spool_bytes=2**20,
        receipts=Path("receipts.log"),
        state_dir=Path("state"),
        partitions=64,
        replication=3,
        topic_prefix="eu-",
        retention=timedelta(days=90),
    )


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"URL": "registry:8081"}, "_URL must be an address such as https://"),
        ({"URL": "https://"}, "_URL must be an address such as https://"),
        ({"URL": "https://registry:99999"}, "_URL must be an address such as https://"),
        ({"URL": "https://[registry"}, "_URL must be an address such as https://"),
        ({"URL": "ftp://registry"}, "_URL must be an address such as https://"),
        ({"URL": "https://registry/?planted"}, "_URL must be an address such as https://"),
        ({"URL": "https://me:planted@registry"}, "_URL must hold no user and password: set "),
        ({"USERNAME": "me:planted", "PASSWORD": "planted"}, "_USERNAME must not have a colon"),
    ],
)
def test_an_address_of_no_registry_is_refused_without_its_value(given: dict[str, str], expected: str) -> None:
    with pytest.raises(SettingError) as fault:
        read_settings({f"LEADSTREAM_SCHEMA_REGISTRY_{name}": value for name, value in given.items()})

    assert str(fault.value).startswith(f"LEADSTREAM_SCHEMA_REGISTRY{expected}")
    assert "planted" not in str(fault.value)


@pytest.mark.parametrize("name", Settings.__dataclass_fields__)
def test_an_empty_variable_counts_as_unset(name: str) -> None:
    assert read_settings({variable(name): ""}) == Settings()


@pytest.mark.parametrize(
    ("name", "text", "bounds"),
    [
        ("PORT", "http", "from 0 to 65535"),
        ("PORT", "65536", "from 0 to 65535"),
        ("ADMIN_PORT", "-1", "from 0 to 65535"),
        ("KAFKA_PORT", "0", "from 1 to 65535"),
        ("PARTITIONS", "0", "from 1 to 10000"),
        ("PARTITIONS", "8.5", "from 1 to 10000"),
        ("PARTITIONS", "٨", "from 1 to 10000"),
        ("PARTITIONS", "9" * 5000, "from 1 to 10000"),
        ("REPLICATION", "101", "from 1 to 100"),
        ("SPOOL_BYTES", "1000", "from 1048576 to 1125899906842624"),
    ],
)
def test_a_number_out_of_bounds_is_refused_by_its_variable(name: str, text: str, bounds: str) -> None:
    with pytest.raises(SettingError) as fault:
        read_settings({f"LEADSTREAM_{name}": text})

    assert str(fault.value) == f"LEADSTREAM_{name} must be a whole number {bounds}"


@pytest.mark.parametrize(
    "url",
    [
        "https://graph.facebook.com",
        "http://127.0.0.1:8090",
        "http://[::1]:8090",
        "http://localhost:8090/",
        "http://simulator:8090",
    ],
)
def test_tokens_go_to_https_or_stay_on_this_machine(url: str) -> None:
    assert read_settings({"LEADSTREAM_GRAPH_URL": url}).graph_url == url


@pytest.mark.parametrize(
    "url",
    [
        "http://graph.facebook.com",
        "http://2130706433",
        "http://0x7f000001",
        "http://10.0.0.7:8090",
        "http://127.0.0.1.example.com",
        "http://0.0.0.0:8090",
        "ftp://127.0.0.1",
        "graph.facebook.com",
        "https://",
        "https://[::1",
    ],
)
def test_tokens_do_not_go_anywhere_in_clear(url: str) -> None:
    with pytest.raises(SettingError, match=r"^LEADSTREAM_GRAPH_URL must be an https address"):
        read_settings({"LEADSTREAM_GRAPH_URL": url})


@pytest.mark.parametrize("token", ["planted\n", " planted", "plan\tted", "planted "])
def test_a_verify_token_that_meta_could_not_repeat_is_refused(token: str) -> None:
    with pytest.raises(SettingError, match=r"^LEADSTREAM_VERIFY_TOKEN has a blank") as fault:
        read_settings({"LEADSTREAM_VERIFY_TOKEN": token})

    assert "planted" not in str(fault.value)


@pytest.mark.parametrize(
    ("url", "kept"),
    [
        ("https://leads.example.com", "https://leads.example.com"),
        ("https://leads.example.com/", "https://leads.example.com"),
        ("HTTPS://leads.example.com:8443/in//", "HTTPS://leads.example.com:8443/in"),
        ("https://[2001:db8::1]/in", "https://[2001:db8::1]/in"),
    ],
)
def test_a_public_url_is_kept_without_the_slash_at_its_end(url: str, kept: str) -> None:
    assert read_settings({"LEADSTREAM_PUBLIC_URL": url}).public_url == kept


@pytest.mark.parametrize(
    "url",
    [
        "http://leads.example.com",
        "leads.example.com",
        "https://",
        "https:///path",
        "https://:8443",
        "https://leads.example.com:0",
        "https://leads.example.com:99999",
        "https://leads.example.com:port",
        "https://[2001:db8::1",
        "https://planted@leads.example.com",
        "https://leads.example.com/?planted",
        "https://leads.example.com/#planted",
        "https://leads.example.com/a b",
        "https://leäds.example.com",
        "https://leads.example.com/\\n",
        "javascript://leads.example.com",
    ],
)
def test_a_public_url_that_meta_could_not_show_is_refused_and_not_shown(url: str) -> None:
    with pytest.raises(SettingError) as fault:
        read_settings({"LEADSTREAM_PUBLIC_URL": url})

    assert str(fault.value) == "LEADSTREAM_PUBLIC_URL must be an https address such as https://leads.example.com"


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:8001", "[::1]", "256.0.0.1", "http://127.0.0.1"])
def test_an_admin_host_that_is_no_ip_address_is_refused(host: str) -> None:
    with pytest.raises(SettingError) as fault:
        read_settings({"LEADSTREAM_ADMIN_HOST": host})

    assert str(fault.value) == "LEADSTREAM_ADMIN_HOST must be an IP address such as 127.0.0.1, 0.0.0.0 or ::"


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:8002"),
        ("0.0.0.0", "http://127.0.0.1:8002"),
        ("::", "http://[::1]:8002"),
        ("10.1.2.3", "http://10.1.2.3:8002"),
        ("2001:db8::1", "http://[2001:db8::1]:8002"),
    ],
)
def test_an_admin_port_is_reached_from_this_machine_whatever_it_listens_on(host: str, url: str) -> None:
    assert Settings(admin_host=host).admin_url(8002) == url


SECRET = "planted-planted-planted"
SECRET_VARIABLES = sorted(map(variable, SECRETS))


@pytest.mark.parametrize("name", SECRET_VARIABLES)
@pytest.mark.parametrize("text", [SECRET, f"{SECRET}\n", f"{SECRET}\r\n"])
def test_a_secret_may_come_from_a_file(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / "secret").write_text(text, newline="")

    from_file = read_settings({f"{name}_FILE": str(tmp_path / "secret")})

    assert from_file == read_settings({name: SECRET})
    assert from_file != Settings()


@pytest.mark.parametrize("name", SECRET_VARIABLES)
def test_a_secret_that_is_given_twice_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "secret").write_text("planted")

    with pytest.raises(SettingError) as fault:
        read_settings({f"{name}_FILE": str(tmp_path / "secret"), name: "planted"})

    assert str(fault.value) == f"{name} and {name}_FILE are both set: unset one of them"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "cannot be read: No such file or directory"),
        (b"", "is empty"),
        (b" \n", "is empty"),
        (b"planted\nplanted\n", "has more than one line"),
        (b"planted\xff", "cannot be read: it is not UTF-8 text"),
    ],
)
def test_a_secret_file_that_cannot_be_used_is_named_and_not_shown(
    tmp_path: Path, content: bytes | None, reason: str
) -> None:
    path = tmp_path / "secret"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(SettingError) as fault:
        read_settings({"LEADSTREAM_VERIFY_TOKEN_FILE": str(path)})

    assert str(fault.value) == f"LEADSTREAM_VERIFY_TOKEN_FILE: {path} {reason}"


def test_a_secret_file_that_is_a_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match=r"LEADSTREAM_APP_SECRET_FILE: .* cannot be read: Is a directory"):
        read_settings({"LEADSTREAM_APP_SECRET_FILE": str(tmp_path)})


def test_only_secrets_come_from_files(tmp_path: Path) -> None:
    assert read_settings({"LEADSTREAM_APP_ID_FILE": str(tmp_path / "none")}) == Settings()


@pytest.mark.parametrize("app_id", ["my app", "-1", "1.5", "٨"])
def test_an_app_id_that_is_no_number_is_refused(app_id: str) -> None:
    with pytest.raises(SettingError) as fault:
        read_settings({"LEADSTREAM_APP_ID": app_id})

    assert str(fault.value) == "LEADSTREAM_APP_ID must be the number that the App Dashboard shows"


@pytest.mark.parametrize("secrets", ["planted,", ",planted", "planted,,other", " , "])
def test_an_empty_secret_is_refused_and_no_secret_is_shown(secrets: str) -> None:
    """Anyone could sign with an empty secret."""
    with pytest.raises(SettingError) as fault:
        read_settings({"LEADSTREAM_APP_SECRET": secrets})

    assert str(fault.value) == "LEADSTREAM_APP_SECRET has an empty secret between its commas"


def test_secrets_are_not_shown() -> None:
    settings = Settings(
        app_secrets=("planted-secret",),
        verify_token="planted-token",
        console_token="planted-token-of-the-console",
        kafka_sasl_password="planted-password",
    )

    assert "planted-" not in repr(settings)


@pytest.mark.parametrize("name", ["app_secrets", "verify_token", "app_id"])
def test_a_required_setting_that_is_missing_is_named(name: str) -> None:
    with pytest.raises(SettingError) as fault:
        Settings().require(name)

    assert str(fault.value) == f"{variable(name)} is not set: it has no default"


def test_required_settings_that_are_there_pass() -> None:
    Settings(app_secrets=("s",), verify_token="v").require("app_secrets", "verify_token")


def test_the_prefix_stands_in_front_of_a_topic() -> None:
    assert Settings(topic_prefix="eu-").topic("leads") == "eu-leads"


@pytest.mark.parametrize("text", ["30", "0d", "999ms", "36501d", "-1d", "1w", "٣d", "1d2h"])
def test_a_retention_that_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(SettingError) as fault:
        read_settings({"LEADSTREAM_RETENTION": text})

    assert str(fault.value) == "LEADSTREAM_RETENTION must be a duration such as 90s, 15m, 12h or 30d"


def test_a_retention_is_a_duration() -> None:
    assert read_settings({"LEADSTREAM_RETENTION": "36h"}).retention == timedelta(hours=36)


_LONG_PATH = "x" * 256
_NO_URLS = (
    "planted", "//planted", "ftp://planted", "https://planted:port", "https://planted:65536", "https://planted:0",
    "https://plan ted", "https://a..planted", f"https://{'planted' * 50}", "https://user:planted@host",
    "https://host/?planted", "https://host/#planted", "https://host/\tplanted",
)  # fmt: skip
_NO_NUMBERS = ("-1", "planted", "1.5", "1e3", "1_000", "0x10", "+8", "٨", "9" * 5000, "65536000000000000000")
_NO_PORTS = (*_NO_NUMBERS, "65536")
_NO_DURATIONS = ("-1s", "planted", "30", "1.5h", "10 s", "1w", "30D", "0s", "1ms", "36501d", "9" * 5000 + "d")
# Values that each setting refuses, beside blanks.
REFUSED = {
    "broker": (
        "host:notanumber", "host:", ":9092", "host:0", "host:65536", "host:-1", "host:9092:9092", "host:9092,",
        ",host:9092", "host 9092", "SSL://host:9092", "https://host", "host:9092/planted", "::1", "[::1", "[host]:9092",
        "a..b:9092", "planted" * 50, "hösť:9092",
    ),
    "kafka_security_protocol": ("planted", "ssl", "SASL"),
    "kafka_sasl_mechanism": ("planted", "plain", "SCRAM"),
    "kafka_sasl_username": ("plan\x00ted", "plan\nted"),
    "kafka_sasl_password": ("planted\n", "plan\x1bted"),
    "kafka_oauth_token_command": ("'planted", "planted \\", "#\nplanted"),
    "kafka_ca_file": (_LONG_PATH, "x/" * 3000), "kafka_cert_file": (_LONG_PATH,), "kafka_key_file": (_LONG_PATH,),
    "kafka_port": (*_NO_PORTS, "0"),
    "schema_registry_url": _NO_URLS,
    "schema_registry_username": ("plan:ted", "plan\nted"),
    "schema_registry_password": ("planted\n",),
    "schema_registry_ca_file": (_LONG_PATH,),
    "app_id": ("-1", "planted", "1.5", "٨", "9" * 33),
    "app_secrets": (",", "planted,", "plan\nted", "\ufeffplanted", "plantedä"),
    "verify_token": ("\ufeffplanted", "plan\nted"),
    "console_token": ("planted", "planted-of-fifteen"[:15], "planted with a blank", "c" * 201, "plantedäplantedä"),
    "pages": (_LONG_PATH,), "followups": (_LONG_PATH,), "destinations": (_LONG_PATH,),
    "graph_url": (*_NO_URLS, "http://planted.example.com", "https://graph.facebook.com/\n"),
    "graph_version": ("25.0", "v25", "v25.0/planted", "latest", "V25.0", "v1000.0", "v-1.0"),
    "warehouse": (
        "mysql://user:planted@host/db", "http://planted", "postgresql:/planted", "s3:/planted", "s3://plan\nted",
        _LONG_PATH,
    ),
    "host": ("127.0.0.1:8000", "http://planted", "[::1]", "a..b", "plan ted", "planted" * 50, "hösť", "*"),
    "port": _NO_PORTS,
    "admin_host": ("localhost", "127.0.0.1:8001", "[::1]", "256.0.0.1", "http://127.0.0.1", "planted"),
    "admin_port": _NO_PORTS,
    "public_url": (*_NO_URLS, "http://planted.example.com"),
    "keep_alive": _NO_DURATIONS,
    "log_file": (_LONG_PATH,),
    "log_bytes": (*_NO_NUMBERS, "0", "1048575", "1MB"),
    "spool_dir": (_LONG_PATH,),
    "spool_bytes": (*_NO_NUMBERS, "0", "1048575", "1GiB"),
    "receipts": (_LONG_PATH,), "state_dir": (_LONG_PATH,),
    "partitions": (*_NO_NUMBERS, "0", "10001"),
    "replication": (*_NO_NUMBERS, "0", "101"),
    "topic_prefix": ("a b", "a/", "eu:", "ä", "$", "planted" * 17),
    "retention": _NO_DURATIONS,
    "canary": _NO_DURATIONS,
}  # fmt: skip
_WITH_BLANKS = ("app_secrets", "kafka_sasl_password", "schema_registry_password")


def test_the_table_of_refused_values_has_every_setting() -> None:
    assert REFUSED.keys() == Settings.__dataclass_fields__.keys()


@pytest.mark.parametrize("name", Settings.__dataclass_fields__)
def test_every_refused_value_ends_in_one_line_without_the_value(name: str) -> None:
    blanks = () if name in _WITH_BLANKS else (" ", "\n", "\t", " planted", "planted ", "planted\n", "planted\r")
    for text in (*REFUSED[name], *blanks):
        with pytest.raises(SettingError) as fault:
            read_settings({variable(name): text})

        message = str(fault.value)
        assert message.startswith(f"{variable(name)} "), text
        assert "\n" not in message
        assert "planted" not in message


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("kafka", "kafka"),
        ("kafka-1.example.com:9093 , kafka_2:65535", "kafka-1.example.com:9093,kafka_2:65535"),
        ("10.0.0.1:9092,[2001:db8::1]:9092,[::1]", "10.0.0.1:9092,[2001:db8::1]:9092,[::1]"),
        ("kafka.example.com.:9092", "kafka.example.com.:9092"),
    ],
)
def test_the_broker_may_be_several_servers(text: str, read: str) -> None:
    assert read_settings({"LEADSTREAM_BROKER": text}).broker == read


@pytest.mark.parametrize(
    "text",
    [
        "leads/warehouse", "/srv/leads", "file:///srv/leads", "s3://bucket/leads", "abfss://leads@account/w",
        "postgresql://", "postgres://user@db:5432/leads", "postgresql:///leads?host=/var/run/postgresql",
    ],
)  # fmt: skip
def test_a_warehouse_is_a_directory_object_storage_or_a_server(text: str) -> None:
    assert read_settings({"LEADSTREAM_WAREHOUSE": text}).warehouse == text
