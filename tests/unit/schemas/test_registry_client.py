"""Ids come from whichever registry is asked: registered where that is allowed, looked up where it is not."""

import json
import struct
from collections.abc import Callable, Sequence
from typing import Any

import httpx
import pytest

from schemas.codec import lead_codec
from schemas.registry_client import RegistryClient, RegistryFault, registry_ids
from schemas.released import newest, released, subjects
from tests.builders import a_lead
from tests.unit.ingest.fakes import registry_app

URL = "http://registry/"
SUBJECTS = [f"eu-{subject}" for subject in subjects()]


class Registry:
    """A registry with ids of its own, from 1001, that may forbid to register."""

    def __init__(self, *, forbids: int | None = None, knows: Sequence[str] = SUBJECTS) -> None:
        self.forbids = forbids
        self.knows = knows
        self.asked: list[str] = []

    def answer(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request.url.path)
        _, _, subject, *versions = request.url.path.split("/")
        definition = json.loads(json.loads(request.content)["schema"])
        if versions and self.forbids:
            return httpx.Response(self.forbids, json={"error_code": self.forbids})
        if subject not in self.knows:
            return httpx.Response(404, json={"error_code": 40401})
        release = next(release for release in released() if release.definition == definition)
        return httpx.Response(200, json={"id": 1000 + release.id})


async def ids_from(answer: Callable[[httpx.Request], httpx.Response]) -> Any:
    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as http:
        return await registry_ids(RegistryClient(URL, http), "eu-")


def every_release(first_id: int) -> dict[str, tuple[int, dict[int, Any]]]:
    """By schema: the id to write with and what each id means, in a registry that counts from `first_id`."""
    shift = first_id - 1
    return {
        schema: (
            shift + newest(schema).id,
            {shift + release.id: release.definition for release in released() if release.schema == schema},
        )
        for schema in {schema.schema for schema in released()}
    }


EXPECTED = every_release(first_id=1001)


@pytest.mark.anyio
async def test_our_schemas_are_registered() -> None:
    registry = Registry()

    assert await ids_from(registry.answer) == EXPECTED
    versions = [f"/subjects/eu-{subject}/versions" for subject, of_it in subjects().items() for _ in of_it]
    assert registry.asked == versions


@pytest.mark.anyio
@pytest.mark.parametrize("status", [401, 403, 405, 422])
async def test_where_registering_is_forbidden_they_are_looked_up(status: int) -> None:
    assert await ids_from(Registry(forbids=status).answer) == EXPECTED


@pytest.mark.anyio
async def test_the_built_in_registry_gives_the_released_ids() -> None:
    transport = httpx.ASGITransport(registry_app("eu-"))
    async with httpx.AsyncClient(transport=transport) as http:
        found = await registry_ids(RegistryClient("http://registry", http), "eu-")

    assert found == every_release(first_id=1)


@pytest.mark.anyio
async def test_a_codec_speaks_with_the_ids_it_was_given() -> None:
    codec = lead_codec(await ids_from(Registry().answer))

    written = codec.encode(a_lead())

    assert struct.unpack(">bI", written[:5]) == (0, 1000 + newest("lead").id)
    assert codec.decode(written) == a_lead()


@pytest.mark.anyio
@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(Registry(forbids=403, knows=[]).answer, id="looked up and not there"),
        pytest.param(lambda _: httpx.Response(500, text="planted"), id="server error"),
        pytest.param(lambda _: httpx.Response(500, json={"message": "planted"}), id="server error with a message"),
        pytest.param(lambda _: httpx.Response(409, text="planted"), id="incompatible without a message"),
        pytest.param(lambda _: httpx.Response(200, text="planted"), id="not a registry"),
        pytest.param(lambda _: httpx.Response(200, json=["planted"]), id="a list"),
        pytest.param(lambda _: httpx.Response(200, json={"id": "planted"}), id="no number"),
        pytest.param(lambda _: httpx.Response(200, json={"id": -1}), id="below zero"),
        pytest.param(lambda _: httpx.Response(200, json={"id": 2**31}), id="beyond four bytes"),
        pytest.param(lambda _: httpx.Response(200, json={"id": True}), id="no number either"),
        pytest.param(lambda _: httpx.Response(200, content=b"[" * 100_000), id="nested beyond reading"),
    ],
)
async def test_without_an_id_there_is_an_error_that_tells_nothing_secret(
    answer: Callable[[httpx.Request], httpx.Response],
) -> None:
    with pytest.raises(RegistryFault, match="eu-messenger-events-value") as caught:
        await ids_from(answer)

    assert "planted" not in str(caught.value)


@pytest.mark.anyio
async def test_why_a_schema_is_incompatible_is_told_in_one_short_line() -> None:
    message = f"Old readers\nneed \x1b[31mrevision {'x' * 1000}"

    with pytest.raises(RegistryFault) as caught:
        await ids_from(lambda _: httpx.Response(409, json={"error_code": 409, "message": message}))

    said = str(caught.value)
    assert "answered 409 for version 1 of eu-messenger-events-value: Old readers need  [31mrevision xxx" in said
    assert said.isprintable()
    assert len(said) < 600


@pytest.mark.anyio
@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "registry:8081", "http://[", ""])
async def test_a_registry_that_cannot_be_reached_is_named_by_what_failed(url: str) -> None:
    async with httpx.AsyncClient() as http:
        with pytest.raises(RegistryFault, match="did not answer"):
            await registry_ids(RegistryClient(url, http))
