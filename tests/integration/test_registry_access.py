"""Somebody else's schema registry: credentials, a CA of its own, and one line for each way in which it says no."""

import asyncio
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from cli.main import main
from operations.doctor.registry import examine_registry
from runtime.admin import serve
from runtime.settings import read_settings
from schemas.registry_client import find_ids
from tests.certificates import Authority, Certificate
from tests.conftest import free_port
from tests.integration.registry_front import PASSWORD, POWERLESS, USER, front
from tests.unit.ingest.fakes import registry_app


@dataclass(frozen=True, slots=True)
class Registry:
    url: str
    certificate: Certificate

    def environment(self, **changed: str) -> dict[str, str]:
        given = {
            "URL": self.url,
            "USERNAME": USER,
            "PASSWORD": PASSWORD,
            "CA_FILE": str(self.certificate.authority),
        } | changed
        return {f"LEADSTREAM_SCHEMA_REGISTRY_{name}": value for name, value in given.items()}


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    authority = Authority(tmp_path_factory.mktemp("certificates"))
    certificate = authority.issue("localhost", hosts=("localhost",))
    port, over, up = free_port(), threading.Event(), threading.Event()

    async def run() -> None:
        async with serve(registry_app(), "127.0.0.1", port):
            up.set()
            await asyncio.to_thread(over.wait)

    serving = threading.Thread(target=asyncio.run, args=(run(),))
    serving.start()
    up.wait()
    with front(f"http://127.0.0.1:{port}", certificate) as url:
        yield Registry(url, certificate)
    over.set()
    serving.join()


def _register(registry: Registry, **changed: str) -> Result:
    return CliRunner().invoke(main, ["schemas", "register"], env=registry.environment(**changed))


def test_a_registry_takes_our_credentials_over_its_own_tls(registry: Registry) -> None:
    settings = read_settings(registry.environment())

    done = _register(registry)

    assert done.exit_code == 0, done.output
    assert "lead: 2, 9" in done.output
    assert asyncio.run(find_ids(settings))["lead"].write_id == 9
    assert asyncio.run(examine_registry(settings)).standing == "ok"


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"PASSWORD": "wrong"}, "answered 401 for version 1 of messenger-events-value; check LEADSTREAM_{}_USERNAME"),
        ({"USERNAME": POWERLESS}, "answered 403 for version 1 of {} has no right to it"),
        (
            {"USERNAME": ""},
            "set both or neither of LEADSTREAM_SCHEMA_REGISTRY_USERNAME and LEADSTREAM_SCHEMA_REGISTRY_PASSWORD",
        ),
        (
            {"PASSWORD": ""},
            "set both or neither of LEADSTREAM_SCHEMA_REGISTRY_USERNAME and LEADSTREAM_SCHEMA_REGISTRY_PASSWORD",
        ),
        ({"CA_FILE": ""}, "certificate is not trusted: {}; check LEADSTREAM_SCHEMA_REGISTRY_CA_FILE"),
        ({"CA_FILE": "other"}, "certificate is not trusted: {}; check LEADSTREAM_SCHEMA_REGISTRY_CA_FILE"),
        ({"CA_FILE": "/nowhere.pem"}, "LEADSTREAM_SCHEMA_REGISTRY_CA_FILE cannot be read: No such file"),
        ({"CA_FILE": "key"}, "LEADSTREAM_SCHEMA_REGISTRY_CA_FILE names a file without a certificate in PEM"),
        ({"URL": "127.0.0.1"}, "certificate is not trusted: IP address mismatch{}"),
        ({"URL": "http"}, "did not answer ({}); check LEADSTREAM_SCHEMA_REGISTRY_URL"),
        ({"URL": "/html"}, "answered no JSON object for {} is the root of its API"),
        ({"URL": "/endless"}, "answered more than 4194304 bytes; check LEADSTREAM_SCHEMA_REGISTRY_URL"),
        ({"URL": "/silent"}, "did not answer in 10 seconds; check LEADSTREAM_SCHEMA_REGISTRY_URL"),
        ({"URL": "/nowhere"}, "answered 404 for version 1 of {}; check LEADSTREAM_SCHEMA_REGISTRY_URL"),
    ],
)
def test_each_refusal_is_one_line_that_names_the_setting(
    registry: Registry, changed: dict[str, str], expected: str, tmp_path: Path
) -> None:
    kinds = {
        "other": str(Authority(tmp_path).file),
        "key": str(registry.certificate.key),
        "127.0.0.1": registry.url.replace("localhost", "127.0.0.1"),
        "http": registry.url.replace("https:", "http:"),
    }
    given = {name: kinds.get(value, value) for name, value in changed.items()}
    if changed.get("URL", "").startswith("/"):
        given["URL"] = f"{registry.url}{changed['URL']}"

    done = _register(registry, **given)
    verdict = asyncio.run(examine_registry(read_settings(registry.environment(**given))))

    assert (done.exit_code, len(done.output.splitlines())) == (1, 1), done.output
    for part in expected.split("{}"):
        assert part in done.output
    assert verdict.standing == "broken"
    for said in (done.output, repr(verdict)):
        assert "planted" not in said
        assert registry.url not in said


def test_no_proxy_of_the_environment_leads_to_this_machine(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")

    assert _register(registry).exit_code == 0
