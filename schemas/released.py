"""The released Avro schemas with their fixed ids, for the built-in registry and the codec."""

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from schemas.topics import TOPICS

# A released id never changes: it is in every record written with it.
_RELEASED = {
    1: "event.v1",
    2: "lead.v1",
    3: "followup-command.v1",
    4: "followup-outcome.v1",
    5: "transcript-request.v1",
    7: "data-deletion-request.v1",
    8: "event.v2",
    9: "lead.v2",
    10: "followup-command.v2",
    11: "lead-stage.v1",
    12: "conversion-outcome.v1",
}


@dataclass(frozen=True, slots=True)
class Released:
    """One released schema: `schema` is its name, `version` counts from 1, `definition` is the parsed `.avsc`."""

    id: int
    schema: str
    version: int
    definition: dict[str, Any]


@cache
def released() -> tuple[Released, ...]:
    """All released schemas, oldest first."""
    return tuple(_load(schema_id, stem) for schema_id, stem in _RELEASED.items())


def _load(schema_id: int, stem: str) -> Released:
    schema, version = stem.rsplit(".v", 1)
    return Released(schema_id, schema, int(version), json.loads((files("schemas") / f"{stem}.avsc").read_text()))


def newest(schema: str) -> Released:
    """The newest release of a schema."""
    return max((release for release in released() if release.schema == schema), key=lambda release: release.version)


def subjects() -> dict[str, tuple[Released, ...]]:
    """Subject (`<topic>-value`, as Confluent's TopicNameStrategy has it) → its versions, oldest first."""
    return {
        f"{topic.name}-value": tuple(release for release in released() if release.schema == topic.schema)
        for topic in TOPICS
        if topic.schema is not None
    }
