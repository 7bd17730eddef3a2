"""The schema ids of another registry: ours are registered there at start, or looked up where that is forbidden."""

import json

from schemas.codec import SchemaIds
from schemas.registry_api import COMPATIBILITY
from schemas.registry_client import RegistryClient, RegistryFault
from schemas.released import Released, subjects

# Not allowed, no such method (a read-only proxy), or the subject is in read-only mode.
_FORBIDDEN = frozenset({401, 403, 405, 422})
# Four bytes of every record, and a Java int for other readers.
_MOST = 2**31 - 1


async def registry_ids(registry: RegistryClient, prefix: str = "") -> dict[str, SchemaIds]:
    """Schema name → the ids of its releases in another registry, the newest to write with.

    Registering is idempotent: a registry answers the id that a schema already has. Raises `RegistryFault`.
    """
    found = {}
    for subject, versions in subjects().items():
        ids = {await _id_of(one, registry, prefix + subject): one.definition for one in versions}
        found[versions[-1].schema] = SchemaIds(list(ids)[-1], ids)
    return found


async def require_compatibility(registry: RegistryClient, prefix: str = "") -> bool:
    """Have the registry refuse versions that are not FULL_TRANSITIVE; False where we may not set that.

    Raises `RegistryFault` when the registry does not answer.
    """
    answers = [
        await registry.ask("PUT", "config", prefix + subject, body={"compatibility": COMPATIBILITY})
        for subject in subjects()
    ]
    return all(answer.is_success for answer in answers)


async def _id_of(one: Released, registry: RegistryClient, subject: str) -> int:
    body = {"schema": json.dumps(one.definition)}
    answer = await registry.ask("POST", "subjects", subject, "versions", body=body)
    if answer.status in _FORBIDDEN:
        answer = await registry.ask("POST", "subjects", subject, body=body)
    asked = f"version {one.version} of {subject}"
    schema_id = answer.members(asked).get("id")
    if type(schema_id) is not int or not 0 <= schema_id <= _MOST:
        raise RegistryFault(f"the schema registry answered no schema id for {asked}")
    return schema_id
