"""The built-in registry answers as Confluent's does, serves every released schema, and takes none."""

import json
from typing import Any

import httpx
import pytest

from schemas.released import released, subjects
from tests.unit.ingest.fakes import registry_app

SUBJECTS = subjects()
RELEASES = [
    pytest.param(subject, version, id=f"{subject} {version.version}")
    for subject in SUBJECTS
    for version in SUBJECTS[subject]
]


async def ask(method: str, path: str, *, prefix: str = "", **options: Any) -> httpx.Response:
    app = registry_app(prefix)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://registry") as client:
        answer = await client.request(method, path, **options)
    assert answer.headers["Content-Type"] == "application/vnd.schemaregistry.v1+json"
    return answer


async def get(path: str, *, prefix: str = "") -> Any:
    answer = await ask("GET", path, prefix=prefix)
    assert answer.status_code == 200
    return answer.json()


def wrapped(definition: Any, **more: Any) -> dict[str, Any]:
    return {"schema": json.dumps(definition, indent=3), **more}


@pytest.mark.anyio
async def test_every_subject_is_listed() -> None:
    assert await get("/subjects") == sorted(SUBJECTS)
    assert await get("/subjects", prefix="eu-") == sorted(f"eu-{subject}" for subject in SUBJECTS)
    assert [await get(f"/subjects/{name}/versions") for name in SUBJECTS] == [
        [version.version for version in versions] for versions in SUBJECTS.values()
    ]


@pytest.mark.anyio
@pytest.mark.parametrize(("subject", "one"), RELEASES)
async def test_every_release_is_served_by_subject_and_by_id(subject: str, one: Any) -> None:
    described = await get(f"/subjects/{subject}/versions/{one.version}")

    assert {**described, "schema": json.loads(described["schema"])} == {
        "subject": subject,
        "version": one.version,
        "id": one.id,
        "schema": one.definition,
    }
    assert json.loads((await get(f"/schemas/ids/{one.id}"))["schema"]) == one.definition
    assert {"subject": subject, "version": one.version} in await get(f"/schemas/ids/{one.id}/versions")


@pytest.mark.anyio
@pytest.mark.parametrize("subject", SUBJECTS)
async def test_latest_is_the_newest_version(subject: str) -> None:
    newest = SUBJECTS[subject][-1]

    assert [(await get(f"/subjects/{subject}/versions/{name}"))["id"] for name in ("latest", "-1")] == [newest.id] * 2


@pytest.mark.anyio
async def test_the_rules_of_evolution_are_told() -> None:
    assert await get("/config") == {"compatibilityLevel": "FULL_TRANSITIVE"}
    assert await get("/config/leads-value") == {"compatibilityLevel": "FULL_TRANSITIVE"}


@pytest.mark.anyio
@pytest.mark.parametrize(("subject", "one"), RELEASES)
async def test_a_released_schema_is_recognised_whatever_its_spacing(subject: str, one: Any) -> None:
    looked_up = await ask("POST", f"/subjects/p-{subject}", prefix="p-", json=wrapped(one.definition))
    registered = await ask(
        "POST", f"/subjects/p-{subject}/versions", prefix="p-", json=wrapped(one.definition, schemaType="AVRO")
    )

    assert (looked_up.status_code, looked_up.json()["id"]) == (200, one.id)
    assert (registered.status_code, registered.json()) == (200, {"id": one.id})


LEAD = SUBJECTS["leads-value"][-1].definition
OTHER = {"type": "record", "name": "Other", "fields": []}


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("path", "error_code"),
    [
        ("/subjects/nobody-value/versions", 40401),
        ("/subjects/nobody-value/versions/1", 40401),
        ("/subjects/nobody-value/versions/latest", 40401),
        ("/config/nobody-value", 40408),
        ("/subjects/leads-value/versions/99", 40402),
        ("/subjects/leads-value/versions/0", 42202),
        ("/subjects/leads-value/versions/-2", 42202),
        ("/subjects/leads-value/versions/newest", 42202),
        ("/subjects/leads-value/versions/%C2%B2", 42202),
        ("/subjects/leads-value/versions/" + "9" * 5000, 42202),
        ("/schemas/ids/999", 40403),
        ("/schemas/ids/x", 40403),
        ("/schemas/ids/999/versions", 40403),
    ],
)
async def test_what_is_not_there_is_told_in_confluents_words(path: str, error_code: int) -> None:
    answer = await ask("GET", path)

    assert answer.status_code == error_code // 100
    assert answer.json()["error_code"] == error_code
    assert answer.json()["message"]


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("path", "request_body", "error_code"),
    [
        pytest.param("/subjects/leads-value", wrapped(OTHER), 40403, id="look up another"),
        pytest.param("/subjects/nobody-value", wrapped(LEAD), 40401, id="look up elsewhere"),
        pytest.param("/subjects/leads-value/versions", wrapped(OTHER), 42205, id="register another"),
        pytest.param("/subjects/nobody-value/versions", wrapped(LEAD), 42205, id="register elsewhere"),
        pytest.param("/subjects/messenger-events-value/versions", wrapped(LEAD), 42205, id="register in another topic"),
        pytest.param("/subjects/leads-value", wrapped(LEAD, schemaType="PROTOBUF"), 42201, id="not Avro"),
        pytest.param("/subjects/leads-value", {"schema": "{"}, 42201, id="not JSON inside"),
        pytest.param("/subjects/leads-value", {}, 42201, id="no schema"),
        pytest.param("/subjects/leads-value", [], 42201, id="no object"),
    ],
)
async def test_nothing_can_be_added(path: str, request_body: Any, error_code: int) -> None:
    answer = await ask("POST", path, json=request_body)

    assert answer.status_code == error_code // 100
    assert answer.json()["error_code"] == error_code


@pytest.mark.anyio
@pytest.mark.parametrize("versions", ["versions", "versions/latest", "versions/1"])
async def test_a_candidate_is_compared_field_by_field(versions: str) -> None:
    widened = {**LEAD, "fields": [*LEAD["fields"], {"name": "score", "type": ["null", "long"], "default": None}]}
    narrowed = {**LEAD, "fields": LEAD["fields"][1:]}

    async def ask_for(definition: Any) -> Any:
        path = f"/compatibility/subjects/leads-value/{versions}"
        return (await ask("POST", path, json=wrapped(definition))).json()

    assert await ask_for(widened) == {"is_compatible": True}
    assert await ask_for(narrowed) == {
        "is_compatible": False,
        "messages": ["lead_id: is gone and had no default, so that old readers need it"],
    }
    assert (await ask_for("string"))["is_compatible"] is False
    assert (await ask_for({"type": "record"}))["error_code"] == 42201


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("offset=1&limit=2", sorted(SUBJECTS)[1:3]),
        ("offset=0&limit=-1", sorted(SUBJECTS)),
        ("limit=0", []),
        ("offset=99", []),
        ("subjectPrefix=leads-", ["leads-value"]),
        ("subjectPrefix=:*:", sorted(SUBJECTS)),
        ("subjectPrefix=nobody", []),
    ],
)
async def test_a_list_comes_in_pages(query: str, found: list[str]) -> None:
    assert await get(f"/subjects?{query}") == found


@pytest.mark.anyio
@pytest.mark.parametrize("query", ["offset=x", "limit=1.5", "limit="])
async def test_a_page_that_is_no_number_is_not_found(query: str) -> None:
    assert (await ask("GET", f"/subjects?{query}")).status_code == 404


@pytest.mark.anyio
@pytest.mark.parametrize("body", [b"", b"not json", b"\xff", b"[" * 200_000])
async def test_a_request_that_is_no_json_is_refused(body: bytes) -> None:
    answer = await ask("POST", "/subjects/leads-value/versions", content=body)

    assert (answer.status_code, answer.json()["error_code"]) == (422, 42201)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("DELETE", "/subjects/leads-value", 405),
        ("DELETE", "/subjects/leads-value/versions/1", 405),
        ("PUT", "/config", 405),
        ("PUT", "/config/leads-value", 405),
        ("DELETE", "/config/leads-value", 405),
        ("PUT", "/mode", 404),
        ("DELETE", "/mode/leads-value", 404),
    ],
)
async def test_nothing_can_be_changed(method: str, path: str, status: int) -> None:
    answer = await ask(method, path, json={"compatibility": "NONE", "mode": "READWRITE"})

    assert (answer.status_code, answer.json()["error_code"]) == (status, status)


def test_each_released_schema_has_a_subject() -> None:
    assert {version.id for versions in SUBJECTS.values() for version in versions} == {
        schema.id for schema in released()
    }
