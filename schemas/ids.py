"""The schema ids of another registry: ours are registered there at start, or looked up where that is forbidden."""

import json
from urllib.parse import quote

import httpx

from schemas.codec import SchemaIds
from schemas.registry import Released, subjects
from schemas.registry_api import COMPATIBILITY, CONTENT_TYPE

# Not allowed, no such method (a read-only proxy), or the subject is in read-only mode.
_FORBIDDEN = frozenset({401, 403, 405, 422})

_REASON_CHARACTERS = 500


class NoSchemaId(Exception):
    """The registry gave no id for a schema; the message names the subject and the answer, never the URL."""


async def registry_ids(url: str, http: httpx.AsyncClient, prefix: str = "") -> dict[str, SchemaIds]:
    """Schema name → the ids of its releases in the registry at `url`, the newest to write with.

    Registering is idempotent: a registry answers the id that a schema already has. Raises `NoSchemaId`.
    """
    found = {}
    for subject, versions in subjects().items():
        address = f"{url.rstrip('/')}/subjects/{quote(prefix + subject, safe='')}"
        ids = {await _id_of(one, address, prefix + subject, http): one.definition for one in versions}
        found[versions[-1].schema] = SchemaIds(list(ids)[-1], ids)
    return found


async def require_compatibility(url: str, http: httpx.AsyncClient, prefix: str = "") -> bool:
    """Have the registry refuse versions that are not FULL_TRANSITIVE; False where we may not set that.

    Raises `NoSchemaId` when the registry does not answer.
    """
    held = True
    for subject in subjects():
        address = f"{url.rstrip('/')}/config/{quote(prefix + subject, safe='')}"
        try:
            answer = await http.put(address, json={"compatibility": COMPATIBILITY})
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise NoSchemaId(f"the schema registry did not answer for {subject}: {type(error).__name__}") from error
        held = held and answer.is_success
    return held


async def _id_of(one: Released, address: str, subject: str, http: httpx.AsyncClient) -> int:
    answer = await _post(f"{address}/versions", one, subject, http)
    if answer.status_code in _FORBIDDEN:
        answer = await _post(address, one, subject, http)
    try:
        schema_id = answer.json()["id"] if answer.status_code == httpx.codes.OK else None
    except (ValueError, KeyError, TypeError):
        schema_id = None
    if not isinstance(schema_id, int):
        said = f"the schema registry answered {answer.status_code} for version {one.version} of {subject}"
        raise NoSchemaId(said + _reason(answer))
    return schema_id


def _reason(answer: httpx.Response) -> str:
    """Why the registry refuses a schema, as one line that a terminal can show; other errors may tell an address."""
    if answer.status_code != httpx.codes.CONFLICT:
        return ""
    try:
        message = str(answer.json()["message"])
    except (ValueError, KeyError, TypeError):
        return ""
    return f": {''.join(one if one.isprintable() else ' ' for one in message)[:_REASON_CHARACTERS]}"


async def _post(address: str, one: Released, subject: str, http: httpx.AsyncClient) -> httpx.Response:
    try:
        return await http.post(
            address, content=json.dumps({"schema": json.dumps(one.definition)}), headers={"Content-Type": CONTENT_TYPE}
        )
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise NoSchemaId(f"the schema registry did not answer for {subject}: {type(error).__name__}") from error
