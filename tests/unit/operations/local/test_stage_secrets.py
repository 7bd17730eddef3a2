"""Each process gets the secrets that it needs and no other."""

import os
import sys
from pathlib import Path
from time import sleep

import pytest

from leads.pages import Page
from operations.configuration import load_pages
from operations.local.processes import Processes
from operations.local.stack import HAND_OFFS, STAGES
from operations.local.stage_secrets import NEEDED, environ_of
from runtime.settings import SECRETS, Settings, variable
from runtime.yaml_file import FileFault
from tests.builders import PAGE

PAGES = f'pages: {{"{PAGE}": {{access_token: "${{TOKEN_OF_PAGE}}", target_app: "${{OUR_APP}}"}}}}\n'
DESTINATIONS = "destinations: [{name: crm, url: 'https://crm.example.com', secret: '${SECRET_OF_CRM}'}]\n"
NAMES = {
    "app_secrets": "LEADSTREAM_APP_SECRET",
    "verify_token": "LEADSTREAM_VERIFY_TOKEN",
    "tokens": "TOKEN_OF_PAGE",
    "destinations": "SECRET_OF_CRM",
    "warehouse": "LEADSTREAM_WAREHOUSE",
    "console_token": "LEADSTREAM_CONSOLE_TOKEN",
}
HARMLESS = {"PATH": "/bin", "OUR_APP": "22", "TOKEN_OF_NOBODY": "x"}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    (tmp_path / "pages.yaml").write_text(PAGES)
    (tmp_path / "destinations.yaml").write_text(DESTINATIONS)
    return Settings(pages=tmp_path / "pages.yaml", destinations=tmp_path / "destinations.yaml")


@pytest.mark.parametrize("suffix", ["", "_FILE"])
@pytest.mark.parametrize("stage", NEEDED)
def test_a_stage_gets_what_it_needs(settings: Settings, stage: str, suffix: str) -> None:
    given = {f"{name}{suffix}": "secret" for name in (*NAMES.values(), "PGPASSWORD")}

    left = environ_of(stage, {**given, **HARMLESS}, settings)

    needed = {f"{NAMES[name]}{suffix}" for name in NEEDED[stage]}
    needed |= {f"PGPASSWORD{suffix}"} if "warehouse" in NEEDED[stage] else set()
    assert left.keys() == needed | HARMLESS.keys()


@pytest.mark.parametrize("stage", NEEDED)
def test_all_but_the_broker_may_talk_to_the_broker(settings: Settings, stage: str) -> None:
    given = {"LEADSTREAM_KAFKA_SASL_PASSWORD": "x", "LEADSTREAM_SCHEMA_REGISTRY_PASSWORD": "x", "LEADSTREAM_PORT": "1"}

    assert environ_of(stage, given, settings) == ({} if stage == "kafka" else given)


def test_the_table_has_every_secret_and_every_process() -> None:
    clients = {"kafka_sasl_password", "schema_registry_password"}
    assert {name for name in SECRETS if name not in clients} <= set().union(*NEEDED.values())
    others = {
        "ingest",
        "doctor",
        "backfill",
        "console",
        "canary",
        "fake-meta",
        "kafka",
        *(f"sink-{name}" for name in HAND_OFFS),
    }
    assert {"-".join(stage) for stage in STAGES} | others == set(NEEDED)
    assert all(variable(name) == NAMES[name] for name in ("app_secrets", "verify_token", "warehouse", "console_token"))


def test_of_a_file_with_a_fault_no_variable_is_given(settings: Settings) -> None:
    settings.pages.write_text(PAGES + "pages: {\n")

    assert environ_of("kafka", {"TOKEN_OF_PAGE": "x", "OUR_APP": "22", "PATH": "/bin"}, settings) == {"PATH": "/bin"}


def test_pages_can_be_read_without_their_tokens(settings: Settings) -> None:
    environ = {"OUR_APP": "22"}

    (page,) = load_pages(settings, environ, tokens=False)

    assert page == Page(PAGE, target_app=page.target_app)
    with pytest.raises(FileFault, match="TOKEN_OF_PAGE is not set"):
        load_pages(settings, environ)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_child_has_no_secret_of_another(settings: Settings, tmp_path: Path) -> None:
    environ = {**os.environ, **dict.fromkeys(NAMES.values(), "s3cret")}
    (tmp_path / "logs").mkdir(mode=0o755)
    with Processes(
        tmp_path / "logs", environ, lambda _: None, environ_of=lambda stage: environ_of(stage, environ, settings)
    ) as processes:
        processes.start("streams", "simulate", "graph", "--port", "0", ready_url="http://127.0.0.1:9/")
        pid = processes._children[0].process.pid
        # Until the child runs its program it has no environment.
        while not (seen := Path(f"/proc/{pid}/environ").read_bytes()):
            sleep(0.01)

    assert b"PATH=" in seen
    assert b"s3cret" not in seen
    assert (tmp_path / "logs").stat().st_mode & 0o077 == 0
    assert (tmp_path / "logs/streams.log").stat().st_mode & 0o077 == 0
