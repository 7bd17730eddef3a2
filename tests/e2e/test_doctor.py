"""`leadstream doctor` as an operator runs it: ingest, a fake Meta and Kafka, first as they come, then mended."""

import json
import logging
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner, Result

from cli.main import main
from operations.local.processes import Processes
from operations.local.stack import admin_url
from runtime.ports import free_ports
from runtime.settings import Settings

pytestmark = pytest.mark.integration

_log = logging.getLogger(__name__)

PAGES_YAML = 'pages: {"102030405060708": {access_token: "${PAGE_TOKEN}", target_app: "900100200300400"}}'


class Place:
    """A deployment whose topics do not exist yet and whose Page is not subscribed to all that it needs."""

    def __init__(self, broker: str, home: Path, prefix: str) -> None:
        (home / "pages.yaml").write_text(PAGES_YAML)
        self.graph_port = free_ports()
        self.settings = Settings(port=free_ports(), admin_port=free_ports(2))
        told = {
            "BROKER": broker, "TOPIC_PREFIX": prefix, "PARTITIONS": "2", "STATE_DIR": str(home),
            "PAGES": str(home / "pages.yaml"), "WAREHOUSE": str(home / "warehouse"), "APP_ID": "900100200300400",
            "APP_SECRET": "planted-secret", "VERIFY_TOKEN": "planted-verify",
            "GRAPH_URL": f"http://127.0.0.1:{self.graph_port}",
            "PORT": str(self.settings.port), "ADMIN_PORT": str(self.settings.admin_port),
        }  # fmt: skip
        kept = {name: value for name, value in os.environ.items() if not name.startswith("LEADSTREAM_")}
        self.environ = {**kept, **{f"LEADSTREAM_{name}": value for name, value in told.items()}}
        self.environ["PAGE_TOKEN"] = "planted-token"

    @property
    def callback(self) -> str:
        return f"http://127.0.0.1:{self.settings.port}/webhooks/messenger"

    def doctor(self, *arguments: str) -> Result:
        return CliRunner().invoke(main, ["doctor", *arguments], env=self.environ)

    def broken(self, *arguments: str) -> list[str]:
        result = self.doctor("--json", *arguments)
        whole: dict[str, Any] = json.loads(result.output)
        named = [check["check"] for check in whole["checks"] if check["standing"] == "broken"]
        assert (result.exit_code, whole["ok"]) == (1 if named else 0, not named)
        return named


@pytest.fixture
def place(kafka_broker: str, tmp_path: Path, topic_prefix: str) -> Iterator[Place]:
    made = Place(kafka_broker, tmp_path, topic_prefix)
    with Processes(tmp_path / "logs", made.environ, _log.info) as processes:
        graph = f"http://127.0.0.1:{made.graph_port}/_simulator/sends"
        processes.start("meta", "simulate", "graph", "--port", str(made.graph_port), "--seed", "1", ready_url=graph)
        processes.start("ingest", "ingest", ready_url=admin_url(made.settings, "ingest", "/healthz"))
        processes.await_ready()
        yield made


def test_doctor_names_what_is_missing_and_fix_mends_it(place: Place) -> None:
    assert place.broken() == ["app fields", "page fields", "topics"]

    mended = place.doctor("--fix", "--callback-url", place.callback)

    assert mended.exit_code == 0, mended.output
    assert "mended   subscribed the app to messages, messaging_handovers" in mended.output
    assert "mended   subscribed Page 102030405060708" in mended.output
    assert mended.output.endswith(" checked, 0 broken\n")
    assert place.broken() == []
    assert "planted" not in mended.output


def test_doctor_tells_monitoring_of_a_callback_that_does_not_answer(place: Place) -> None:
    place.doctor("--fix", "--callback-url", "http://127.0.0.1:1/webhooks/messenger")

    assert place.broken("--page", "102030405060708") == ["callback"]


def test_doctor_goes_on_looking_and_shows_it_where_probes_look(place: Place, tmp_path: Path) -> None:
    port = free_ports()
    ready = f"http://127.0.0.1:{port}/readyz"
    with Processes(tmp_path / "doctor", place.environ, _log.info) as processes:
        processes.start(
            "doctor", "doctor", "--every", "60", "--admin-port", str(port), ready_url=ready.replace("ready", "health")
        )
        processes.await_ready()
        parts = _parts_once_looked(ready)

    assert parts["token (102030405060708)"]["ready"]
    assert not parts["app fields (app)"]["ready"]
    assert not parts["topics (kafka)"]["ready"]
    assert "planted" not in json.dumps(parts) + (tmp_path / "doctor" / "doctor.log").read_text()


def _parts_once_looked(ready: str) -> dict[str, Any]:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if parts := httpx.get(ready).json()["parts"]:
            return dict(parts)
        time.sleep(0.1)
    raise AssertionError("the doctor has not looked within half a minute")
