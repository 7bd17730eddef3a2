"""docs/configuration.md: every setting and every key of the YAML files."""

from pathlib import Path
from typing import NamedTuple

from docs.markdown import table
from docs.yaml_keys import CAPS_KEYS, DESTINATION_KEYS, PAGE_KEYS, RULE_KEYS, SEND_KEYS, WHEN_KEYS
from operations.local.stage_secrets import NEEDED
from runtime.settings import SECRETS, Settings, variable

_INTRODUCTION = """\
# Configuration

Made by `make docs` from `runtime/settings.py` and `docs/configuration_page.py`; do not edit.

The environment, read once at the start of a command, and three YAML files decide everything. A wrong value ends the
command with one line that names the variable, or file, line and key. An empty variable counts as unset.
A secret may come from a file, as container engines mount it: `<variable>_FILE` names the file, and its text without the
newline at its end is the value. This holds for {secrets}, and for every `${NAME}` of the YAML files.
`.env.example` holds the smallest environment that runs.
"""


class Meaning(NamedTuple):
    """The meaning of a setting, the commands that read it, and its default where the code's `None` has a meaning."""

    text: str
    read_by: str
    default: str | None = None


_KAFKA_CLIENTS = "all that read `LEADSTREAM_BROKER`"

SETTINGS = {
    "broker": Meaning(
        "Address of the Kafka to use, `host:port` and more with commas. Unset: the local node of `leadstream kafka`",
        "all but `simulate` and `warehouse`",
        "the local node",
    ),
    "kafka_security_protocol": Meaning(
        "The security protocol of that Kafka: `PLAINTEXT`, `SSL` (TLS), `SASL_PLAINTEXT` or `SASL_SSL`. With TLS its "
        "certificate and host name are verified",
        _KAFKA_CLIENTS,
    ),
    "kafka_sasl_mechanism": Meaning(
        "`PLAIN`, `SCRAM-SHA-256`, `SCRAM-SHA-512` or `OAUTHBEARER`; with a protocol of `SASL_…`", _KAFKA_CLIENTS
    ),
    "kafka_sasl_username": Meaning("The user, or an API key; not with `OAUTHBEARER`", _KAFKA_CLIENTS),
    "kafka_sasl_password": Meaning("The password, or the secret of the API key", _KAFKA_CLIENTS),
    "kafka_oauth_token_command": Meaning(
        "For `OAUTHBEARER`: a command, run without a shell, that prints a token within 30 seconds. A JWT is used until "
        "30 seconds before it expires",
        _KAFKA_CLIENTS,
    ),
    "kafka_ca_file": Meaning(
        "Certificates, in PEM form, of the authorities that may sign that Kafka's certificate",
        _KAFKA_CLIENTS,
        "the system's",
    ),
    "kafka_cert_file": Meaning("For mutual TLS: our certificate and its chain, in PEM form", _KAFKA_CLIENTS),
    "kafka_key_file": Meaning("The key of that certificate, in PEM form and without a passphrase", _KAFKA_CLIENTS),
    "kafka_port": Meaning(
        "Port of the local Kafka node, on loopback. A node that has run keeps its data on another port too",
        "`kafka start`, `up`",
    ),
    "schema_registry_url": Meaning(
        "A schema registry with Confluent's API: our schemas are registered there at the start, and records carry its "
        "ids. Unset: the ids that leadstream is released with, served by ingest on its admin port",
        "all that read or write records, `schemas register`, `doctor`",
        "the built-in one",
    ),
    "schema_registry_username": Meaning(
        "Our user at the registry (HTTP basic authentication), set together with the password. An API key at "
        "Confluent Cloud",
        "all that read `LEADSTREAM_SCHEMA_REGISTRY_URL`, and `examples/consume_confluent.py`",
        "none",
    ),
    "schema_registry_password": Meaning(
        "The password, or API secret, of that user", "all that read `LEADSTREAM_SCHEMA_REGISTRY_URL`", "none"
    ),
    "schema_registry_ca_file": Meaning(
        "A PEM file with the CA that signed the registry's certificate. Unset: the public CAs",
        "all that read `LEADSTREAM_SCHEMA_REGISTRY_URL`",
        "none",
    ),
    "app_id": Meaning(
        "Our app's id, a number: the target app of Pages for which `pages.yaml` names none. Unset for `streams`: a "
        "lead handover to any app counts as ours",
        "`ingest`, `up` and `doctor` need it; `streams`, `sink send`, `simulate`, `template`",
        "none: required",
    ),
    "app_secrets": Meaning(
        "The app secret that signs webhooks. While rotating, several with commas: a webhook may be signed with any of "
        "them, and calls to Meta are proven with the first",
        "`ingest`, `up`, `doctor` and `simulate` need it; `sink send`",
        "none: required",
    ),
    "verify_token": Meaning(
        "The token of your choice that Meta repeats when it subscribes to the webhook",
        "`ingest`, `up` and `doctor` need it",
        "none: required",
    ),
    "pages": Meaning(
        "The Pages; see below. Without the file every Page has the defaults", "`streams`, `sink send`, `simulate`"
    ),
    "followups": Meaning(
        "The follow-up rules; see below. Without the file nothing is sent", "`streams`, `sink send`, `followups`"
    ),
    "destinations": Meaning(
        "The endpoints that get leads; see below. Without the file there are none", "`sink deliver`, `deliver`, `up`"
    ),
    "graph_url": Meaning(
        "Address of the Graph API; with the simulator's address nothing is sent to anyone. It must be https, or http "
        "on loopback or to a container's name without a dot, because access tokens are sent there",
        "`sink send`, `sink conversions`",
    ),
    "graph_version": Meaning("Version of the Graph API", "`sink send`, `sink conversions`"),
    "warehouse": Meaning(
        "A directory or the URI of object storage for Delta Lake tables, or `postgresql://…` for a server",
        "`sink warehouse`, `warehouse`",
    ),
    "host": Meaning("Address that the public port listens on; `::` is every address, of IPv4 too", "`ingest`"),
    "port": Meaning("The public port, for Meta's webhooks", "`ingest`"),
    "admin_host": Meaning(
        "IP address that the admin ports listen on: `0.0.0.0` in a container. They have no password: keep "
        "strangers out",
        "`ingest`, `streams`, `sink`, `doctor`, `backfill`, `console`, `up`",
    ),
    "admin_port": Meaning(
        "Ingest's port for health, metrics and schemas; `streams` takes the next one, `sink send` the one "
        "after it, `sink warehouse` the third, `sink transcripts` the fourth, `console` the seventh, `sink "
        "deliver` the ninth, `sink conversions` the tenth",
        "`ingest`, `streams`, `sink`, `console`",
    ),
    "console_token": Meaning(
        "The token that opens the console, 16 characters or more. It is needed unless `LEADSTREAM_ADMIN_HOST` is "
        "loopback; then, without it, everybody on this machine may use the console",
        "`console`",
    ),
    "public_url": Meaning(
        "The https address under which the public port is reached from outside. Meta's data-deletion callback is "
        "answered with the address of a status page below it; unset, it is answered 503, though the request is kept",
        "`ingest`, `doctor`",
    ),
    "keep_alive": Meaning(
        "How long a connection to the public port may be idle between two requests. Set it longer than the proxy in "
        "front keeps one, or that proxy answers 502 at times: most keep it for 60 seconds, Google's for 600",
        "`ingest`",
        "75s",
    ),
    "log_file": Meaning(
        "The file for the log and everything else that the process prints, in place of standard error. It is cut into "
        "eight pieces: the newest has this name, the older ones a number behind it. `up` gives each process its own "
        "file in `logs` of `LEADSTREAM_STATE_DIR`",
        "`ingest`, `streams`, `sink`, `doctor`, `backfill`",
        "standard error",
    ),
    "log_bytes": Meaning(
        "The size of all pieces of a log file together; the oldest piece is removed. The receipt of a webhook takes "
        "about 350 bytes, and `leadstream verify` can prove only what the pieces hold",
        "`ingest`, `streams`, `sink`, `doctor`, `backfill`",
        "256 MiB",
    ),
    "spool_dir": Meaning(
        "Where webhooks wait while Kafka is away. It must be a disk that outlives the process",
        "`ingest`",
        "`spool` in `LEADSTREAM_STATE_DIR`",
    ),
    "spool_bytes": Meaning(
        "The most that may wait there, for each worker: bodies and 512 bytes for each. Beyond it webhooks are answered "
        "503, and Meta delivers again",
        "`ingest`",
        "1 GiB",
    ),
    "receipts": Meaning(
        "A file for the receipts of webhooks that were answered 200, for `leadstream verify`; it is cut into pieces "
        "as `LEADSTREAM_LOG_BYTES` says. Unset: they are lines of the log",
        "`ingest`",
    ),
    "state_dir": Meaning(
        "Where the local Kafka, the spool and the logs of `up` are kept, and in `queries` what a query of an embedded "
        "warehouse cannot hold in memory while it runs",
        "`kafka`, `ingest`, `up`, `demo`, `console`, `warehouse`",
    ),
    "partitions": Meaning(
        "Partitions of every topic. Never change it for existing topics: keys would move", "`topics apply`, `streams`"
    ),
    "replication": Meaning(
        "Copies of every partition; with 3 or more, a write is acknowledged when two brokers have it, with 1 or 2 when "
        "it is synced to disk",
        "`topics apply`",
    ),
    "retention": Meaning(
        "How long webhooks, dead letters and everything else that names a person may stay in Kafka: `30d`, `12h`. An "
        "erasure is complete when it has passed; a replay reaches as far back. Unset: webhooks and dead letters for "
        "ever. `leadstream topics apply` applies it",
        "`topics apply`, `replay`, `doctor`, `erase`, `demo`, `up`",
        "for ever",
    ),
    "canary": Meaning(
        "How often a canary flies, such as `60s`: a signed webhook of a reserved Page goes through everything but "
        "Meta, and metrics say how long it took or that it was lost; see [operating.md](operating.md). `up` then "
        "starts `leadstream canary`. Unset: never",
        "`canary`, `up`, `doctor`",
    ),
    "topic_prefix": Meaning("A prefix of the name of every topic and consumer group", "all but `simulate`"),
}


def configuration_page() -> str:
    return (
        "\n\n".join(
            (
                _INTRODUCTION.strip().replace("{secrets}", _secrets()),
                "## Environment",
                table(("Variable", "Default", "Meaning", "Read by"), map(_setting_row, Settings.__dataclass_fields__)),
                "`OTEL_EXPORTER_OTLP_ENDPOINT` and OpenTelemetry's other variables have `ingest`, `streams` and the "
                "sinks send traces; see [operating.md](operating.md#traces).",
                "## Secrets",
                "`leadstream up` and `leadstream demo` give each process the secrets of its row, and so does "
                "`docker-compose.yml`; all but Kafka have the credentials for Kafka "
                "and for the schema registry as well. A process that calls no Page needs no token.",
                table(("Process", "Secrets"), map(_needs, NEEDED)),
                "Only its user may read what leadstream writes on this machine: the local Kafka, the spool, the logs "
                "and the positions of backfill in `LEADSTREAM_STATE_DIR`, and exports. `kafka`, `logs` and `backfill` "
                "there are narrowed at start where an older release left them open. A warehouse directory is made for "
                "its user alone too, but never narrowed, because readers may have been let in: where every user of the "
                "machine can read it, the sink logs `warehouse.others_can_read`.",
                "## `pages.yaml`",
                "`pages` maps a page id, the `recipient.id` of its webhooks, to these keys. Durations are a number and "
                "one of `ms`, `s`, `m`, `h`, `d`.",
                table(("Key", "Meaning", "Default"), ((f"`{key}`", *cells) for key, cells in PAGE_KEYS.items())),
                _example("pages.yaml"),
                "## `followups.yaml`",
                "`rules` is a list. Each step of a rule sends at most one message for a lead, inside the 24-hour "
                "messaging window narrowed by thread control. `caps` hold for all rules together, and for "
                "commands that others write.",
                table(("Key", "Meaning", "Default"), ((f"`{key}`", *cells) for key, cells in RULE_KEYS.items())),
                table(("Key of `when`", "Meaning"), ((f"`{key}`", meaning) for key, meaning in WHEN_KEYS.items())),
                table(("Key of `send`", "Meaning"), ((f"`{key}`", meaning) for key, meaning in SEND_KEYS.items())),
                table(("Key of `caps`", "Meaning"), ((f"`{key}`", meaning) for key, meaning in CAPS_KEYS.items())),
                _example("followups.yaml"),
                "## `destinations.yaml`",
                "`destinations` is a list. [deliver.md](deliver.md) says what a destination gets, and when.",
                table(("Key", "Meaning", "Default"), ((f"`{key}`", *cells) for key, cells in DESTINATION_KEYS.items())),
                _example("destinations.yaml"),
            )
        )
        + "\n"
    )


def _needs(process: str) -> tuple[str, str]:
    names = {
        "app_secrets": f"`{variable('app_secrets')}`",
        "verify_token": f"`{variable('verify_token')}`",
        "tokens": "the tokens of the Pages",
        "destinations": "the variables of `destinations.yaml`",
        "warehouse": f"`{variable('warehouse')}`, `PGPASSWORD`, `PGPASSFILE`",
        "console_token": f"`{variable('console_token')}`",
    }
    return process, ", ".join(text for name, text in names.items() if name in NEEDED[process]) or "none"


def _secrets() -> str:
    *first, last = (f"`{variable(name)}`" for name in Settings.__dataclass_fields__ if name in SECRETS)
    return f"{', '.join(first)} and {last}"


def _setting_row(name: str) -> tuple[str, str, str, str]:
    meaning = SETTINGS[name]
    default = getattr(Settings(), name)
    shown = meaning.default or ("none" if default in (None, "", ()) else f"`{default}`")
    return f"`{variable(name)}`", shown, meaning.text, meaning.read_by


def _example(name: str) -> str:
    text = (Path(__file__).parents[1] / "examples" / name).read_text(encoding="utf-8")
    return f"```yaml\n{text.strip()}\n```"
