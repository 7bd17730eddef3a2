"""The containers: pinned, watched, private, and made of commands and settings that exist."""

import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from cli.main import main
from runtime.kafka_jars import kafka_version
from runtime.settings import Settings, variable

ROOT = Path(__file__).parents[2]
STACK: Mapping[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
SERVICES: Mapping[str, Mapping[str, Any]] = STACK["services"]
OURS = {name: service for name, service in SERVICES.items() if "build" in service}
ONE_SHOT = {"topics"}
SETTINGS = {variable(name) for name in Settings.__dataclass_fields__}
# The ports behind LEADSTREAM_ADMIN_PORT that the stages take by themselves.
ADMIN_PORTS = {"ingest": 8001, "streams": 8002, "sink-send": 8003, "sink-warehouse": 8004, "sink-transcripts": 8005}


def test_the_stack_is_whole() -> None:
    assert set(SERVICES) == {
        "kafka",
        "schema-registry",
        "postgres",
        "topics",
        "ingest",
        "streams",
        "simulator",
        "sink-send",
        "sink-warehouse",
        "sink-transcripts",
    }


@pytest.mark.parametrize("name", SERVICES)
def test_every_image_is_pinned(name: str) -> None:
    assert re.fullmatch(r"[a-z./-]+:\d+(\.\d+)+", SERVICES[name]["image"])


def test_the_broker_is_the_one_that_leadstream_starts_without_docker() -> None:
    assert SERVICES["kafka"]["image"] == f"apache/kafka:{kafka_version()}"


@pytest.mark.parametrize("name", sorted(SERVICES.keys() - ONE_SHOT))
def test_every_lasting_service_has_a_health_check(name: str) -> None:
    check = SERVICES[name]["healthcheck"]

    assert check["test"][0] == "CMD"
    assert {"interval", "timeout", "retries"} <= check.keys()


@pytest.mark.parametrize(("name", "port"), ADMIN_PORTS.items())
def test_a_stage_is_healthy_when_its_own_admin_port_says_ready(name: str, port: int) -> None:
    assert f"http://127.0.0.1:{port}/readyz" in SERVICES[name]["healthcheck"]["test"][-1]


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_waits_for_health_or_for_an_end(name: str) -> None:
    for needed, wait in SERVICES[name].get("depends_on", {}).items():
        ends = needed in ONE_SHOT

        assert wait == {"condition": "service_completed_successfully" if ends else "service_healthy"}


@pytest.mark.parametrize("name", sorted(OURS.keys() - ONE_SHOT))
def test_nothing_of_ours_starts_before_its_topics_are_there(name: str) -> None:
    assert "topics" in _needed(name)


@pytest.mark.parametrize("name", SERVICES)
def test_ports_are_published_on_loopback_only(name: str) -> None:
    for port in SERVICES[name].get("ports", ()):
        assert port.startswith("127.0.0.1:")


@pytest.mark.parametrize("name", OURS)
def test_a_container_of_ours_can_change_nothing(name: str) -> None:
    service = OURS[name]

    assert service["read_only"]
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]


@pytest.mark.parametrize("name", OURS)
def test_every_variable_of_ours_is_a_setting(name: str) -> None:
    given = {variable for variable in OURS[name]["environment"] if variable.startswith("LEADSTREAM_")}

    assert given <= SETTINGS


@pytest.mark.parametrize("name", OURS)
def test_every_command_is_one_of_leadstreams(name: str) -> None:
    command, arguments = _resolve(OURS[name]["command"])

    command.make_context(name, arguments)


def test_a_command_or_an_option_that_is_none_is_refused() -> None:
    simulate, _ = _resolve(["simulate", "graph"])

    with pytest.raises(click.NoSuchOption):
        simulate.make_context("simulator", ["--everything"])
    with pytest.raises(AssertionError):
        _resolve(["sink", "everything"])


def test_secrets_come_from_outside_and_their_absence_is_said() -> None:
    for name, value in _environment():
        if re.search("SECRET|TOKEN|PASSWORD", name):
            assert re.fullmatch(r"\$\{\w+:\?see \.env\.example\}", value), name


def test_the_example_environment_has_every_variable_that_the_stack_asks_for() -> None:
    asked = set(re.findall(r"\$\{(\w+):\?", (ROOT / "docker-compose.yml").read_text(encoding="utf-8")))

    assert asked <= _example_environment().keys()


def test_the_example_environment_says_of_every_secret_that_it_is_none() -> None:
    secrets = {name: value for name, value in _example_environment().items() if re.search("SECRET|TOKEN|PASSW", name)}

    assert secrets
    assert all(value.startswith("not-a-real-") for value in secrets.values())


def test_the_example_environment_knows_only_settings_that_exist() -> None:
    text = (ROOT / ".env.example").read_text(encoding="utf-8")

    assert set(re.findall(r"LEADSTREAM_\w+", text)) <= SETTINGS


@pytest.mark.parametrize("sink", ["sink-send", "sink-transcripts"])
def test_nothing_talks_to_meta_by_default(sink: str) -> None:
    assert SERVICES[sink]["environment"]["LEADSTREAM_GRAPH_URL"] == ("${LEADSTREAM_GRAPH_URL:-http://127.0.0.1:8090}")


def test_the_simulator_and_who_sends_through_it_share_the_loopback_of_ingest() -> None:
    assert {name for name, one in SERVICES.items() if one.get("network_mode") == "service:ingest"} == {
        "simulator",
        "sink-send",
        "sink-transcripts",
    }


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
    installs = [line for line in lines if "pip install" in line]

    assert all(line.split()[1].startswith("python:3.11-slim") for line in lines if line.startswith("FROM"))
    assert installs
    assert all("--require-hashes" in line or "--no-deps --no-index" in line for line in installs)
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
    assert {"messenger", "leads", "schemas", "ingest", "streams", "sinks", "runtime", "simulator", "cli"} <= taken
    assert all(name.isidentifier() or (ROOT / name).is_file() for name in taken)


def _needed(name: str) -> set[str]:
    direct = set(SERVICES[name].get("depends_on", ()))
    return direct.union(*map(_needed, direct))


def _resolve(words: list[str]) -> tuple[click.Command, list[str]]:
    """The command that these words call, and what is left for it."""
    command: click.Command = main
    while isinstance(command, click.Group):
        found = command.get_command(click.Context(command), words[0])
        assert found is not None, f"{words[0]} is no command of {command.name}"
        command, words = found, words[1:]
    return command, words


def _environment() -> Iterator[tuple[str, str]]:
    for service in SERVICES.values():
        yield from service.get("environment", {}).items()


def _example_environment() -> dict[str, str]:
    lines = (ROOT / ".env.example").read_text(encoding="utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def _compose() -> list[str] | None:
    for command in (["docker", "compose"], ["docker-compose"]):
        if shutil.which(command[0]) and not subprocess.run([*command, "version"], capture_output=True).returncode:
            return command
    return None


def test_what_ingest_answered_200_outlives_its_container() -> None:
    ingest = SERVICES["ingest"]
    spool = ingest["environment"]["LEADSTREAM_SPOOL_DIR"]
    mounted = dict(reversed(volume.split(":")[:2]) for volume in ingest["volumes"])

    assert mounted[spool] in STACK["volumes"]
    assert not any(spool.startswith(volatile) for volatile in ingest["tmpfs"])
