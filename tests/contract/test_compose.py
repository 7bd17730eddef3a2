"""The containers: pinned, watched, private, and made of commands and settings that exist."""

import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from cli.main import main
from docs.alerts import JOB
from docs.dashboards import SOURCE
from operations.configuration import load_pages, load_rules
from operations.destinations import load_destinations
from operations.local.stage_secrets import NEEDED
from runtime.local_kafka.jars import kafka_version
from runtime.settings import SECRETS, Settings, variable
from simulator.people import PAGES
from tests import kafka_container

ROOT = Path(__file__).parents[2]
STACK: Mapping[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
SERVICES: Mapping[str, Mapping[str, Any]] = STACK["services"]
OTHERS = {"kafka", "postgres", "schema-registry", "prometheus", "grafana"}
OURS = {name: service for name, service in SERVICES.items() if name not in OTHERS}
# Started by `docker compose run`, to end by themselves.
COMMANDS = {name for name, service in SERVICES.items() if service.get("profiles") == ["commands"]}
ONE_SHOT = {"topics", *COMMANDS}
# What the stack itself decides: places in a container, and addresses of its network.
DECIDED = {
    *("LEADSTREAM_HOST", "LEADSTREAM_ADMIN_HOST", "LEADSTREAM_ADMIN_PORT"),
    *("LEADSTREAM_STATE_DIR", "LEADSTREAM_SPOOL_DIR", "LEADSTREAM_RECEIPTS", "LEADSTREAM_LOG_FILE"),
}
SETTINGS = {variable(name) for name in Settings.__dataclass_fields__}
# The ports behind LEADSTREAM_ADMIN_PORT that the stages take by themselves.
ADMIN_PORTS = {
    "ingest": 8001,
    "streams": 8002,
    "sink-send": 8003,
    "sink-warehouse": 8004,
    "sink-transcripts": 8005,
    "console": 8008,
}
# Those that run with the profile hand-off.
HAND_OFF_PORTS = {"sink-deliver": 8010, "sink-conversions": 8011}


def test_the_stack_is_whole() -> None:
    assert set(SERVICES) == {
        *("kafka", "postgres", "schema-registry"),
        *("topics", "ingest", "streams", "sink-send", "sink-warehouse", "sink-transcripts", "doctor", "backfill"),
        *("sink-deliver", "sink-conversions"),
        *("canary", "console", "simulator", "campaign", "check", "leadstream", "prometheus", "grafana"),
    }


@pytest.mark.parametrize("name", SERVICES)
def test_every_image_is_pinned(name: str) -> None:
    assert re.fullmatch(r"[a-z./-]+:v?\d+(\.\d+)+", SERVICES[name]["image"])


def test_the_broker_is_the_one_that_leadstream_starts_without_docker() -> None:
    assert SERVICES["kafka"]["image"] == f"apache/kafka:{kafka_version()}"


@pytest.mark.parametrize("name", sorted(SERVICES.keys() - ONE_SHOT))
def test_every_lasting_service_has_a_health_check(name: str) -> None:
    check = SERVICES[name]["healthcheck"]

    assert check["test"][0] == "CMD"
    assert {"interval", "timeout", "retries"} <= check.keys()


def test_no_health_check_starts_a_java_or_a_python() -> None:
    """They run every few seconds in every container."""
    checks = [service["healthcheck"]["test"][1] for service in SERVICES.values() if "healthcheck" in service]

    assert set(checks) <= {"bash", "curl", "pg_isready", "wget"}


@pytest.mark.parametrize(("name", "port"), {**ADMIN_PORTS, **HAND_OFF_PORTS}.items())
def test_a_stage_is_healthy_when_its_own_admin_port_says_ready(name: str, port: int) -> None:
    _, _, _, script, given = SERVICES[name]["healthcheck"]["test"]

    assert given == str(port)
    assert "/dev/tcp/127.0.0.1/$$0" in script
    assert "GET /readyz" in script


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_waits_for_health_or_for_an_end(name: str) -> None:
    for needed, wait in SERVICES[name].get("depends_on", {}).items():
        ends = needed in ONE_SHOT

        assert wait["condition"] == ("service_completed_successfully" if ends else "service_healthy")


@pytest.mark.parametrize("name", sorted(OURS.keys() - ONE_SHOT))
def test_nothing_of_ours_starts_before_its_topics_are_there(name: str) -> None:
    assert "topics" in _needed(name)


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_has_bounds_and_comes_back(name: str) -> None:
    service = SERVICES[name]

    assert {"mem_limit", "pids_limit", "stop_grace_period"} <= service.keys()
    assert service["logging"]["options"] == {"max-size": "10m", "max-file": "3"}
    assert service["restart"] == ("no" if name in ONE_SHOT else "unless-stopped")


def test_one_service_builds_the_image_for_all_of_ours() -> None:
    assert [name for name, service in SERVICES.items() if "build" in service] == ["topics"]
    assert len({service["image"] for service in OURS.values()}) == 1
    assert {service["pull_policy"] for service in OURS.values()} == {"never"}


@pytest.mark.parametrize("name", SERVICES)
def test_nothing_shares_the_network_of_a_container_that_may_end(name: str) -> None:
    assert "network_mode" not in SERVICES[name]


@pytest.mark.parametrize("name", SERVICES)
def test_a_volume_has_a_name(name: str) -> None:
    """One without is left behind by each `down`."""
    for volume in SERVICES[name].get("volumes", ()):
        source, _, mode = volume.partition(":")
        is_ours = volume.startswith("${CONFIG_DIR:-./") or (ROOT / source).is_dir()
        assert source in STACK["volumes"] or (is_ours and mode.endswith(":ro"))


@pytest.mark.parametrize("name", SERVICES)
def test_ports_are_published_on_loopback_only(name: str) -> None:
    for port in SERVICES[name].get("ports", ()):
        assert re.fullmatch(r"127\.0\.0\.1:\$\{\w+:-\d+\}:\d+", port)


@pytest.mark.parametrize("name", [*OURS, "prometheus", "grafana"])
def test_a_container_of_ours_can_change_nothing(name: str) -> None:
    service = SERVICES[name]

    assert service["read_only"]
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]


@pytest.mark.parametrize("name", OURS)
def test_every_variable_of_ours_is_a_setting(name: str) -> None:
    given = {variable for variable in OURS[name]["environment"] if variable.startswith("LEADSTREAM_")}

    assert {variable.removesuffix("_FILE") for variable in given} <= SETTINGS | {
        setting.removesuffix("_FILE") for setting in SETTINGS
    }


def test_prometheus_asks_every_stage_of_the_stack_at_its_admin_port() -> None:
    config = yaml.safe_load((ROOT / "observability/prometheus/prometheus.yaml").read_text(encoding="utf-8"))
    [job] = config["scrape_configs"]
    lookouts = {"doctor": 8006, "backfill": 8007}

    [scraped] = job["static_configs"]
    assert set(scraped["targets"]) == {f"{name}:{port}" for name, port in {**ADMIN_PORTS, **lookouts}.items()}
    assert job["job_name"] == JOB
    found = {f"{name}:{config['port']}" for config in job["dns_sd_configs"] for name in config["names"]}
    assert found == {f"{name}:{port}" for name, port in {**HAND_OFF_PORTS, "canary": 8009}.items()}


def test_grafana_finds_its_dashboards_and_prometheus_and_lets_nobody_in_without_the_password() -> None:
    grafana, provisioning = SERVICES["grafana"], ROOT / "observability/grafana/provisioning"
    mounted = dict(volume.split(":")[1::-1] for volume in grafana["volumes"])
    dashboards = yaml.safe_load((provisioning / "dashboards/leadstream.yaml").read_text())["providers"][0]
    source = yaml.safe_load((provisioning / "datasources/leadstream.yaml").read_text())["datasources"][0]

    assert mounted[dashboards["options"]["path"]] == "./observability/grafana/dashboards"
    assert mounted["/etc/grafana/provisioning"] == "./observability/grafana/provisioning"
    assert source["uid"] == SOURCE["uid"]
    assert source["url"] == "http://prometheus:9090"
    assert grafana["environment"]["GF_AUTH_ANONYMOUS_ENABLED"] == "false"
    assert grafana["environment"]["GF_SECURITY_ADMIN_PASSWORD__FILE"] == "/run/secrets/grafana_password"


def test_every_setting_can_be_given_in_the_environment_file() -> None:
    """Others would be dropped without a word."""
    text = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
    taken = set(re.findall(r"\$\{(LEADSTREAM_\w+):[-?]", text))
    secret = {f"{variable(name)}_FILE" for name in SECRETS}
    mounted = {name for name in secret if f"{name}: /run/secrets/" in text}

    assert {name for name in SETTINGS if not {name, f"{name}_FILE"} & (taken | mounted)} == DECIDED
    assert taken & {variable(name) for name in SECRETS} == set()


@pytest.mark.parametrize("name", OURS)
def test_every_command_is_one_of_leadstreams(name: str) -> None:
    given = [*_words(OURS[name].get("entrypoint", "leadstream")), *OURS[name]["command"]]
    command, arguments = _resolve(given[1:])

    assert given[0] == "leadstream"
    if arguments != ["--help"]:
        command.make_context(name, arguments, obj=("ingest", "simulator"))


def test_the_doctor_looks_at_each_stage_at_its_admin_port_and_at_those_of_a_profile_where_it_is_told_to() -> None:
    shown = re.findall(r"^#DOCTOR_STAGES=(.*)$", (ROOT / ".env.example").read_text(encoding="utf-8"), re.MULTILINE)

    for name in ("doctor", "check"):
        assert SERVICES[name]["entrypoint"].endswith(" ${DOCTOR_STAGES:-}")
        looked_at = _words(SERVICES[name]["entrypoint"])[2:]
        assert looked_at == [_stage(*item) for item in ADMIN_PORTS.items() if item[0] != "console"]
    assert shown == [" ".join(_stage(*item) for item in HAND_OFF_PORTS.items())]


def test_a_command_or_an_option_that_is_none_is_refused() -> None:
    simulate, _ = _resolve(["simulate", "graph"])

    with pytest.raises(click.NoSuchOption):
        simulate.make_context("simulator", ["--everything"], obj=())
    with pytest.raises(AssertionError):
        _resolve(["sink", "everything"])


def test_secrets_are_files() -> None:
    """An engine shows the environment of a container to whoever may ask it."""
    for service in SERVICES.values():
        for name, value in service.get("environment", {}).items():
            if re.search("SECRET|TOKEN|PASSWORD", name):
                assert name.endswith(("_FILE", "_COMMAND")), name
                assert value.startswith(("/run/secrets/", "${")), name


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_gets_the_secrets_that_it_reads_and_no_other(name: str) -> None:
    service = SERVICES[name]
    read = {Path(value).name for value in service.get("environment", {}).values() if value.startswith("/run/secrets/")}

    assert read == set(service.get("secrets", ()))
    assert read <= STACK["secrets"].keys()


SECRET_FILES = {
    "app_secret": "app_secrets",
    "verify_token": "verify_token",
    "page_token": "tokens",
    "destination_secret": "destinations",
    "postgres_password": "warehouse",
    "console_token": "console_token",
}


@pytest.mark.parametrize("name", sorted((NEEDED.keys() & SERVICES.keys()) - {"kafka"}))
def test_a_stage_has_the_secrets_that_leadstream_up_gives_it(name: str) -> None:
    assert {SECRET_FILES[secret] for secret in SERVICES[name].get("secrets", ())} == NEEDED[name]


def test_tokens_and_passwords_are_where_meta_and_postgresql_are_called() -> None:
    holders = {
        secret: {name for name in OURS if secret in OURS[name].get("secrets", ())} for secret in STACK["secrets"]
    }
    everything = {"doctor", "check", "leadstream"}

    assert holders["page_token"] == {
        *("simulator", "campaign", "sink-send", "sink-transcripts", "sink-conversions", "backfill"),
        *everything,
    }
    assert holders["verify_token"] == {"ingest", *everything}
    assert holders["postgres_password"] == {"sink-warehouse", "console", *everything}
    assert holders["console_token"] == {"console"}
    assert holders["destination_secret"] == {"sink-deliver"}


def test_the_secrets_of_the_example_say_that_they_are_none() -> None:
    folder = ROOT / "examples/stack/secrets"

    assert {file.name for file in folder.iterdir()} == STACK["secrets"].keys()
    assert all(file.read_text().startswith("not-a-real-") for file in folder.iterdir())
    assert {secret["file"] for secret in STACK["secrets"].values()} == {
        f"${{SECRETS_DIR:-./examples/stack/secrets}}/{name}" for name in STACK["secrets"]
    }


def test_the_example_configuration_is_one_that_leadstream_reads() -> None:
    folder = ROOT / "examples/stack"
    settings = Settings(
        pages=folder / "pages.yaml", followups=folder / "followups.yaml", destinations=folder / "destinations.yaml"
    )
    pages = list(load_pages(settings, {"PAGE_TOKEN": "a-token"}))

    assert {page.page_id for page in pages} == {page.page_id for page in PAGES}
    assert len({page.access_token for page in pages}) == len(pages)
    assert load_rules(settings, {})
    assert load_destinations(settings, {}) == ()


def test_the_example_environment_has_every_variable_that_the_stack_asks_for() -> None:
    asked = set(re.findall(r"\$\{(\w+):\?", (ROOT / "docker-compose.yml").read_text(encoding="utf-8")))

    assert asked <= _example_environment().keys()


def test_the_example_environment_knows_only_variables_that_the_stack_takes() -> None:
    taken = re.findall(r"\$\{(\w+):", (ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
    shown = re.findall(r"^#?(\w+)=", (ROOT / ".env.example").read_text(encoding="utf-8"), re.MULTILINE)

    assert {*shown} - {*taken, "COMPOSE_PROFILES"} == set()


@pytest.mark.parametrize("name", OURS)
def test_nothing_talks_to_meta_by_default(name: str) -> None:
    assert SERVICES[name]["environment"]["LEADSTREAM_GRAPH_URL"] == "${LEADSTREAM_GRAPH_URL:-http://simulator:8090}"


def test_the_simulator_is_on_a_network_that_has_no_way_out() -> None:
    assert STACK["networks"]["simulated"] == {"internal": True}
    for name in ("simulator", "campaign"):
        assert SERVICES[name]["networks"] == ["simulated"]
    for name in ("ingest", "sink-send", "sink-transcripts", "doctor", "backfill", "check", "leadstream"):
        assert SERVICES[name]["networks"] == ["default", "simulated"]


def test_kafka_has_the_settings_of_the_local_node() -> None:
    """But for addresses, and for what a small machine saves."""
    local = kafka_container.settings("localhost:9092")
    own = {"LISTENERS", "ADVERTISED_LISTENERS", "CONTROLLER_QUORUM_VOTERS", "INTER_BROKER_LISTENER_NAME"}
    small = {name for name in local if name.endswith(("_NUM_PARTITIONS", "_DEDUPE_BUFFER_SIZE"))}
    given = SERVICES["kafka"]["environment"]

    assert {
        name: value
        for name, value in local.items()
        if name.removeprefix("KAFKA_") not in own and name not in small and given.get(name) != value
    } == {}


def test_compose_accepts_the_stack() -> None:
    compose = _compose()
    if compose is None:
        pytest.skip("neither `docker compose` nor `docker-compose` is here")

    checked = subprocess.run(
        [*compose, "--env-file", ".env.example", "config", "--quiet"], cwd=ROOT, capture_output=True, text=True
    )

    assert checked.returncode == 0, checked.stderr


def test_the_image_is_locked_and_does_not_run_as_root() -> None:
    lines = (ROOT / "Dockerfile").read_text(encoding="utf-8").splitlines()
    installs = [line for line in lines if line.startswith("RUN") and ("-install.sh" in line or "pip install" in line)]

    assert all(line.split()[1].startswith("python:3.11-slim") for line in lines if line.startswith("FROM"))
    assert [line for line in installs if line == "RUN sh requirements-install.sh python requirements-otel.txt"]
    assert all("pip install" not in line or "--no-deps --no-index" in line for line in installs)
    assert [line for line in lines if line.startswith("USER")] == ["USER 10001"]
    assert lines[-1] == 'ENTRYPOINT ["leadstream"]'
    assert not any(line.startswith("ARG") for line in lines)


def test_the_image_takes_in_the_packages_and_no_state_or_secret() -> None:
    first, *allowed = [
        line
        for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
        if line and not line.startswith("#")
    ]
    taken = {line.removeprefix("!") for line in allowed if line.startswith("!")}

    assert first == "*"
    assert {
        "messenger",
        "leads",
        "schemas",
        "ingest",
        "streams",
        "sinks",
        "runtime",
        "simulator",
        "console",
        "cli",
    } <= taken
    assert all(name.isidentifier() or (ROOT / name).is_file() for name in taken)


def _needed(name: str) -> set[str]:
    direct = set(SERVICES[name].get("depends_on", ()))
    return direct.union(*map(_needed, direct))


def _words(entrypoint: str | list[str]) -> list[str]:
    return entrypoint.replace("${DOCTOR_STAGES:-}", "").split() if isinstance(entrypoint, str) else entrypoint


def _stage(name: str, port: int) -> str:
    return f"--stage={name}=http://{name}:{port}"


def _resolve(words: list[str]) -> tuple[click.Command, list[str]]:
    """The command that these words call, and what is left for it."""
    command: click.Command = main
    while isinstance(command, click.Group) and words != ["--help"]:
        if words[0].startswith("--peer="):
            words = words[1:]
            continue
        found = command.get_command(click.Context(command), words[0])
        assert found is not None, f"{words[0]} is no command of {command.name}"
        command, words = found, words[1:]
    return command, words


def _example_environment() -> dict[str, str]:
    lines = (ROOT / ".env.example").read_text(encoding="utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def _compose() -> list[str] | None:
    for command in (["docker", "compose"], ["docker-compose"]):
        if shutil.which(command[0]) and not subprocess.run([*command, "version"], capture_output=True).returncode:
            return command
    return None


def test_what_ingest_answered_200_outlives_its_container_and_so_do_its_receipts() -> None:
    ingest = SERVICES["ingest"]
    mounted = dict(reversed(volume.split(":")[:2]) for volume in ingest["volumes"])
    spool, receipts = (ingest["environment"][f"LEADSTREAM_{name}"] for name in ("SPOOL_DIR", "RECEIPTS"))

    assert mounted[spool] in STACK["volumes"]
    assert mounted[str(Path(receipts).parent)] in STACK["volumes"]


def test_the_environment_file_is_never_committed() -> None:
    assert {".env", "/secrets/"} <= set((ROOT / ".gitignore").read_text(encoding="utf-8").splitlines())
