"""The client of a schema registry, and our ids there: registered at start, or looked up where that is forbidden."""

import asyncio
import json
import re
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlsplit

import httpx

from runtime.loopback import is_loopback
from runtime.mendable import Mendable
from runtime.settings import Settings, variable
from schemas.codec import BUILT_IN, Ids, SchemaIds
from schemas.registry_api import COMPATIBILITY, CONTENT_TYPE
from schemas.released import Released, subjects

_SECONDS = 10
_MOST_BYTES = 4 * 1024 * 1024
_REASON_CHARACTERS = 500
_URL, _CA_FILE = variable("schema_registry_url"), variable("schema_registry_ca_file")
_CREDENTIALS = f"{variable('schema_registry_username')} and {variable('schema_registry_password')}"
_MENDS = {401: f"check {_CREDENTIALS}", 403: f"the user of {variable('schema_registry_username')} has no right to it"}

# Not allowed, no such method (a read-only proxy), or the subject is in read-only mode.
_FORBIDDEN = frozenset({401, 403, 405, 422})
# Four bytes of every record, and a Java int for other readers.
_MOST = 2**31 - 1


class RegistryFault(Mendable):
    """The registry cannot be used; the message is one line, without its address or a credential."""


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    body: bytes

    @property
    def is_success(self) -> bool:
        return httpx.codes.is_success(self.status)

    def members(self, asked: str) -> Mapping[str, Any]:
        """The JSON object of a success. Raises `RegistryFault`, which names the request by `asked`."""
        if not self.is_success:
            reason = self._reason() or f"; {_MENDS.get(self.status, f'check {_URL}')}"
            raise RegistryFault(f"the schema registry answered {self.status} for {asked}{reason}")
        members = self._json()
        if not isinstance(members, dict):
            raise RegistryFault(
                f"the schema registry answered no JSON object for {asked}; check that {_URL} is the root of its API"
            )
        return members

    def _reason(self) -> str:
        """The registry's reason to refuse a schema, printable; the text of other errors may hold an address."""
        members = self._json()
        if self.status != httpx.codes.CONFLICT or not isinstance(members, dict) or "message" not in members:
            return ""
        message = str(members["message"])
        return f": {''.join(letter if letter.isprintable() else ' ' for letter in message)[:_REASON_CHARACTERS]}"

    def _json(self) -> Any:
        try:
            return httpx.Response(200, content=self.body).json()
        except (ValueError, RecursionError):
            return None


class RegistryClient:
    """Requests in Confluent's API: https://docs.confluent.io/platform/current/schema-registry/develop/api.html"""

    def __init__(self, root: str, http: httpx.AsyncClient) -> None:
        self._root, self._http = root.rstrip("/"), http

    async def ask(self, method: str, *path: str, body: Mapping[str, Any] | None = None) -> Answer:
        """The answer to one request, whatever its status. Raises `RegistryFault`."""
        address = "/".join([self._root, *(quote(part, safe="") for part in path)])
        headers = {"Content-Type": CONTENT_TYPE}
        try:
            async with (
                asyncio.timeout(_SECONDS),
                self._http.stream(method, address, json=body, headers=headers) as answer,
            ):
                return Answer(answer.status_code, await _read(answer))
        except TimeoutError:
            raise RegistryFault(f"the schema registry did not answer in {_SECONDS} seconds; check {_URL}") from None
        except (httpx.HTTPError, httpx.InvalidURL) as fault:
            raise _fault(fault) from None


@asynccontextmanager
async def registry_client(
    settings: Settings, transport: httpx.AsyncBaseTransport | None = None
) -> AsyncIterator[RegistryClient]:
    """A client of the registry that is set. Raises `RegistryFault`."""
    assert settings.schema_registry_url is not None, "nothing of ours asks the built-in registry"
    async with httpx.AsyncClient(
        auth=_credentials(settings),
        verify=_trust(settings),
        trust_env=not is_loopback(urlsplit(settings.schema_registry_url).hostname or ""),
        timeout=None,  # `ask` bounds the whole of each request.
        transport=transport,
    ) as http:
        yield RegistryClient(settings.schema_registry_url, http)


async def find_ids(settings: Settings) -> Ids:
    """The built-in schema ids, or those of the registry that is set, where it registers our schemas.

    Raises `RegistryFault`.
    """
    if settings.schema_registry_url is None:
        return BUILT_IN
    async with registry_client(settings) as registry:
        return await registry_ids(registry, settings.topic_prefix)


async def registry_ids(registry: RegistryClient, prefix: str = "") -> dict[str, SchemaIds]:
    """Schema name → the ids of its releases in another registry, the newest to write with.

    Registering is idempotent: a registry returns the id that a schema already has. Raises `RegistryFault`.
    """
    by_schema = {}
    for subject, releases in subjects().items():
        ids = {await _id_of(release, registry, prefix + subject): release.definition for release in releases}
        by_schema[releases[-1].schema] = SchemaIds(list(ids)[-1], ids)
    return by_schema


async def require_compatibility(registry: RegistryClient, prefix: str = "") -> bool:
    """Set the registry to refuse versions that are not FULL_TRANSITIVE; False where we may not set that.

    Raises `RegistryFault` when the registry does not answer.
    """
    answers = [
        await registry.ask("PUT", "config", prefix + subject, body={"compatibility": COMPATIBILITY})
        for subject in subjects()
    ]
    return all(answer.is_success for answer in answers)


async def _id_of(release: Released, registry: RegistryClient, subject: str) -> int:
    body = {"schema": json.dumps(release.definition)}
    answer = await registry.ask("POST", "subjects", subject, "versions", body=body)
    if answer.status in _FORBIDDEN:
        answer = await registry.ask("POST", "subjects", subject, body=body)
    asked = f"version {release.version} of {subject}"
    schema_id = answer.members(asked).get("id")
    if type(schema_id) is not int or not 0 <= schema_id <= _MOST:
        raise RegistryFault(f"the schema registry answered no schema id for {asked}")
    return schema_id


def _credentials(settings: Settings) -> httpx.BasicAuth | None:
    user, password = settings.schema_registry_username, settings.schema_registry_password
    if user is None and password is None:
        return None
    if user is None or password is None:
        raise RegistryFault(f"set both or neither of {_CREDENTIALS}")
    return httpx.BasicAuth(user, password)


def _trust(settings: Settings) -> ssl.SSLContext | bool:
    if settings.schema_registry_ca_file is None:
        return True
    try:
        return ssl.create_default_context(cafile=str(settings.schema_registry_ca_file))
    except ssl.SSLError:
        raise RegistryFault(f"{_CA_FILE} names a file without a certificate in PEM") from None
    except OSError as fault:
        raise RegistryFault(f"{_CA_FILE} cannot be read: {fault.strerror}") from None


async def _read(answer: httpx.Response) -> bytes:
    body = bytearray()
    async for part in answer.aiter_bytes():
        body += part
        if len(body) > _MOST_BYTES:
            raise RegistryFault(f"the schema registry answered more than {_MOST_BYTES} bytes; check {_URL}")
    return bytes(body)


def _fault(fault: httpx.HTTPError | httpx.InvalidURL) -> RegistryFault:
    if untrusted := re.search(r"certificate verify failed: ([^(]+)", str(fault)):
        reason = untrusted[1].strip().rstrip(".")
        return RegistryFault(f"the schema registry's certificate is not trusted: {reason}; check {_CA_FILE}")
    return RegistryFault(f"the schema registry did not answer ({type(fault).__name__}); check {_URL}")
