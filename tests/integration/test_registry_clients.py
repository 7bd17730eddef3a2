"""Confluent's own client gets the same answers from the built-in registry as from one of another make."""

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient, SchemaRegistryError

from runtime.admin import serve
from schemas.compatibility import breaks
from schemas.released import Released, subjects
from tests.certificates import Authority
from tests.conftest import GIVEN_REGISTRY, free_port
from tests.integration.registries import apicurio, register
from tests.integration.registry_front import PASSWORD, USER, front
from tests.schema_changes import BREAKING, CHANGES, LEAD
from tests.unit.ingest.fakes import registry_app

PREFIX = "eu-"
SUBJECTS = {f"{PREFIX}{name}": versions for name, versions in subjects().items()}
LEADS = f"{PREFIX}leads-value"
# Of other makes: Apicurio's, and the one that somebody runs for the tests.
APICURIO, GIVEN = ["apicurios"], ["given"] if GIVEN_REGISTRY else []
CHANGES_OF_LEADS = [name for name, change in CHANGES.items() if change.older == LEAD]
OTHER = {"type": "record", "name": "Other", "fields": []}


@pytest.fixture(scope="module")
def built_in() -> Iterator[str]:
    """The URL of the registry that ingest serves."""
    port, over, up = free_port(), threading.Event(), threading.Event()
    app = registry_app(PREFIX)

    async def run() -> None:
        async with serve(app, "127.0.0.1", port):
            up.set()
            await asyncio.to_thread(over.wait)

    serving = threading.Thread(target=asyncio.run, args=(run(),))
    serving.start()
    up.wait()
    yield f"http://127.0.0.1:{port}"
    over.set()
    serving.join()


@pytest.fixture(scope="module")
def apicurios(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of Apicurio's registry, which has our schemas from `leadstream schemas register`."""
    with apicurio(tmp_path_factory.mktemp("apicurio")) as url:
        done = register(url, PREFIX)
        assert done.returncode == 0, done.stderr
        yield url


@pytest.fixture(scope="module")
def given() -> str:
    """The URL of `LEADSTREAM_TEST_REGISTRY`, which has our schemas too."""
    assert GIVEN_REGISTRY is not None
    done = register(GIVEN_REGISTRY, PREFIX)
    assert done.returncode == 0, done.stderr
    return GIVEN_REGISTRY


@pytest.fixture(params=[*APICURIO, *GIVEN])
def another(request: pytest.FixtureRequest) -> str:
    """The URL of each registry of another make."""
    return str(request.getfixturevalue(request.param))


@pytest.fixture(params=["built_in", *APICURIO, *GIVEN])
def client(request: pytest.FixtureRequest) -> Iterator[SchemaRegistryClient]:
    with SchemaRegistryClient({"url": request.getfixturevalue(request.param)}) as client:
        yield client


@pytest.fixture(params=["built_in", *GIVEN])
def whole_client(request: pytest.FixtureRequest) -> Iterator[SchemaRegistryClient]:
    """For what Apicurio 2.4 has otherwise than Confluent's documentation has it."""
    with SchemaRegistryClient({"url": request.getfixturevalue(request.param)}) as client:
        yield client


def avro(definition: Any) -> Schema:
    return Schema(json.dumps(definition), "AVRO")


def refusal(call: Callable[[], Any]) -> tuple[int, int]:
    with pytest.raises(SchemaRegistryError) as caught:
        call()
    return caught.value.http_status_code, caught.value.error_code


def registered(found: Any) -> tuple[str, int, Any]:
    return found.subject, found.version, json.loads(found.schema.schema_str)


def test_every_subject_has_its_releases(client: SchemaRegistryClient) -> None:
    assert sorted(subject for subject in client.get_subjects() if subject.startswith(PREFIX)) == sorted(SUBJECTS)
    assert {subject: client.get_versions(subject) for subject in SUBJECTS} == {
        subject: [version.version for version in versions] for subject, versions in SUBJECTS.items()
    }


def test_subjects_are_found_by_how_they_begin(whole_client: SchemaRegistryClient) -> None:
    """Apicurio 2.4 and Karapace 4.2 pass the parameter over."""
    assert whole_client.get_subjects(subject_prefix=f"{PREFIX}followup") == [
        subject for subject in sorted(SUBJECTS) if subject.startswith(f"{PREFIX}followup")
    ]
    assert whole_client.get_subjects(subject_prefix="us-") == []


@pytest.mark.parametrize("subject", SUBJECTS)
def test_a_release_is_the_same_by_version_by_id_and_by_its_text(client: SchemaRegistryClient, subject: str) -> None:
    newest: Released = SUBJECTS[subject][-1]

    latest = client.get_latest_version(subject)
    by_version = client.get_version(subject, newest.version)
    by_text = client.lookup_schema(subject, avro(newest.definition))

    assert registered(latest) == registered(by_version) == (subject, newest.version, newest.definition)
    assert latest.schema_id == by_version.schema_id == by_text.schema_id
    assert (by_text.subject, by_text.version) == (subject, newest.version)


@pytest.mark.parametrize("subject", SUBJECTS)
def test_an_id_leads_to_the_schema_and_where_it_is_used(client: SchemaRegistryClient, subject: str) -> None:
    newest: Released = SUBJECTS[subject][-1]
    schema_id = client.get_latest_version(subject).schema_id
    assert schema_id is not None
    client.clear_caches()  # type: ignore[no-untyped-call]

    assert json.loads(client.get_schema(schema_id).schema_str or "") == newest.definition
    assert (subject, newest.version) in [
        (version.subject, version.version) for version in client.get_schema_versions(schema_id)
    ]


@pytest.mark.parametrize("subject", SUBJECTS)
def test_a_producer_that_registers_what_is_there_gets_its_id(client: SchemaRegistryClient, subject: str) -> None:
    definition = SUBJECTS[subject][-1].definition

    assert client.register_schema(subject, avro(definition)) == client.get_latest_version(subject).schema_id
    assert client.get_versions(subject) == [known.version for known in SUBJECTS[subject]]


def test_every_subject_is_held_to_the_rule_of_evolution(client: SchemaRegistryClient) -> None:
    assert {client.get_compatibility(subject) for subject in SUBJECTS} == {"FULL_TRANSITIVE"}


@pytest.mark.parametrize("name", CHANGES_OF_LEADS)
def test_every_registry_judges_a_change_of_leads_alike(client: SchemaRegistryClient, name: str) -> None:
    assert client.test_compatibility(LEADS, avro(CHANGES[name].newer)) == (name not in BREAKING)


def test_every_registry_judges_by_all_versions_alike(client: SchemaRegistryClient) -> None:
    """Karapace 4.2 has no such request."""
    assert {
        name: client.test_compatibility_all_versions(LEADS, avro(CHANGES[name].newer)) for name in CHANGES_OF_LEADS
    } == {name: name not in BREAKING for name in CHANGES_OF_LEADS}


@pytest.mark.parametrize("name", CHANGES)
def test_another_make_takes_the_changes_that_our_check_lets_pass(another: str, name: str) -> None:
    older, newer = CHANGES[name]
    subject = f"changes-{list(CHANGES).index(name)}-value"
    with SchemaRegistryClient({"url": another}) as client:
        client.register_schema(subject, avro(older))
        client.set_compatibility(subject, "FULL_TRANSITIVE")

        if not breaks(older, newer):
            assert client.test_compatibility(subject, avro(newer))
            assert client.register_schema(subject, avro(newer))
        else:
            assert not client.test_compatibility(subject, avro(newer))
            status, code = refusal(lambda: client.register_schema(subject, avro(newer)))
            assert (status, code) in {(409, 409), (409, 0)}  # Apicurio has no code for it


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        pytest.param(lambda client: client.get_versions("nobody-value"), (404, 40401), id="no subject"),
        pytest.param(lambda client: client.get_version(LEADS, 99), (404, 40402), id="no version"),
        pytest.param(lambda client: client.get_schema(99_999), (404, 40403), id="no id"),
    ],
)
def test_what_is_not_there_is_refused_alike(
    client: SchemaRegistryClient, call: Callable[[SchemaRegistryClient], Any], expected: tuple[int, int]
) -> None:
    assert refusal(lambda: call(client)) == expected


def test_what_else_is_not_there_is_refused_alike(whole_client: SchemaRegistryClient) -> None:
    """Of Apicurio the codes are 40402 and 40401, and 40401 for a level, as of Karapace."""
    assert refusal(lambda: whole_client.get_latest_version("nobody-value")) == (404, 40401)
    assert refusal(lambda: whole_client.lookup_schema(LEADS, avro(OTHER))) == (404, 40403)
    assert refusal(lambda: whole_client.get_compatibility("nobody-value")) == (404, 40408)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        pytest.param(lambda client: client.register_schema(LEADS, avro(OTHER)), (422, 42205), id="register"),
        pytest.param(lambda client: client.delete_subject(LEADS), (405, 405), id="delete"),
        pytest.param(lambda client: client.delete_version(LEADS, 1), (405, 405), id="delete version"),
        pytest.param(lambda client: client.set_compatibility(LEADS, "NONE"), (405, 405), id="config"),
        pytest.param(lambda client: client.set_compatibility(level="NONE"), (405, 405), id="global config"),
        pytest.param(lambda client: client.update_mode(LEADS, "READWRITE"), (404, 404), id="mode"),
    ],
)
def test_the_built_in_registry_changes_nothing(
    built_in: str, change: Callable[[Any], Any], expected: tuple[int, int]
) -> None:
    with SchemaRegistryClient({"url": built_in, "max.retries": 0}) as client:
        assert refusal(lambda: change(client)) == expected


def test_registering_twice_changes_nothing_and_tells_the_ids(another: str) -> None:
    first, second = register(another, PREFIX), register(another, PREFIX)

    assert (first.returncode, first.stdout, first.stderr) == (second.returncode, second.stdout, second.stderr)
    with SchemaRegistryClient({"url": another}) as client:
        ids = {
            versions[-1].schema: [client.get_version(name, version.version).schema_id for version in versions]
            for name, versions in SUBJECTS.items()
        }
    told = (f"{schema}: {', '.join(map(str, of_versions))}" for schema, of_versions in ids.items())
    assert sorted(first.stdout.splitlines()) == sorted(told)


def test_what_cannot_be_registered_is_told_in_one_line(built_in: str) -> None:
    done = register(built_in, "us-")

    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("Error: the schema registry answered 404 for version 1 of us-")
    assert "LEADSTREAM_SCHEMA_REGISTRY_URL" in done.stderr


def test_a_schema_that_the_registry_refuses_is_told_with_its_reason(another: str) -> None:
    """As where another program wrote to a topic of ours."""
    older = {**LEAD, "fields": [*LEAD["fields"], {"name": "score", "type": "int"}]}
    with SchemaRegistryClient({"url": another}) as client:
        client.register_schema("clash-leads-value", avro(older))
        client.set_compatibility("clash-leads-value", "FULL_TRANSITIVE")

    done = register(another, "clash-")

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("Error: the schema registry answered 409 for version 1 of clash-leads-value: ")
    assert "score" in done.stderr.partition("value: ")[2]
    assert done.stderr.count("\n") == 1


def test_another_registry_behind_tls_and_a_password_takes_our_schemas(
    another: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = Authority(tmp_path / "ca")
    monkeypatch.setenv("LEADSTREAM_SCHEMA_REGISTRY_USERNAME", USER)
    monkeypatch.setenv("LEADSTREAM_SCHEMA_REGISTRY_PASSWORD", PASSWORD)
    monkeypatch.setenv("LEADSTREAM_SCHEMA_REGISTRY_CA_FILE", str(authority.file))
    root = urlsplit(another)

    with front(f"{root.scheme}://{root.netloc}", authority.issue("localhost", hosts=("localhost",))) as url:
        done = register(f"{url}{root.path}", "walled-")

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("event: ")
