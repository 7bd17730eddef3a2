"""`leadstream schemas …`: check a new version, and register ours with the registry."""

import asyncio
import json
import re
from itertools import combinations
from pathlib import Path
from typing import Any

import click
from fastavro.schema import SchemaParseException, parse_schema

from cli.terminal import say
from operations.deployment import current_settings
from operations.reporting import OperationError
from runtime.settings import Settings
from schemas.codec import SchemaIds
from schemas.compatibility import breaks, retypes
from schemas.registry_api import COMPATIBILITY
from schemas.registry_client import registry_client, registry_ids, require_compatibility
from schemas.released import Released, released

_CANDIDATE = re.compile(r"(?P<schema>[a-z][a-z-]*)\.v(?P<version>[1-9][0-9]*)")


@click.group()
def command() -> None:
    """Check and register the Avro schemas of the topics."""


@command.command("check")
@click.argument("files", nargs=-1, type=click.Path(exists=True, dir_okay=False, path_type=Path))
def check(files: tuple[Path, ...]) -> None:
    """Check that all versions read each other, and FILES with them.

    FILES are new versions, such as lead.v3.avsc. Ends non-zero and names the field when a version breaks another, or
    changes the type of a warehouse column, as text that becomes bytes does. A breaking change needs a new topic
    version: docs/topics.md says how.

    \b
    Example:
      leadstream schemas check
      leadstream schemas check lead.v3.avsc
    """
    candidates = [_candidate(file) for file in files]
    everything = [*released(), *candidates]
    faults = [
        f"{older.schema}.v{newer.version} and v{older.version}: {fault}"
        for older, newer in combinations(everything, 2)
        if older.schema == newer.schema
        for find in (breaks, retypes)
        for fault in find(older.definition, newer.definition)
    ]
    if faults:
        raise OperationError(*faults)
    say(f"{len(everything)} schemas, each version reads every other ({COMPATIBILITY})")


@command.command("register")
def register() -> None:
    """Register the released schemas with the registry that is set.

    LEADSTREAM_SCHEMA_REGISTRY_URL names it; their subjects are held to FULL_TRANSITIVE. Safe to repeat: an existing
    schema keeps its id. Where registering is forbidden, ids are looked up.

    \b
    Example:
      leadstream schemas register
    """
    settings = current_settings()
    settings.require("schema_registry_url")
    ids, held = asyncio.run(_register(settings))
    for schema, registered in ids.items():
        say(f"{schema}: {', '.join(map(str, registered.definitions))}")
    if not held:
        say(f"The registry does not let us set {COMPATIBILITY}; its own level applies")


async def _register(settings: Settings) -> tuple[dict[str, SchemaIds], bool]:
    async with registry_client(settings) as registry:
        ids = await registry_ids(registry, settings.topic_prefix)
        return ids, await require_compatibility(registry, settings.topic_prefix)


def _candidate(file: Path) -> Released:
    name = _CANDIDATE.fullmatch(file.stem)
    if name is None or file.suffix != ".avsc":
        raise OperationError(f"{file.name} is not named like a version of a schema, such as lead.v3.avsc")
    if all(release.schema != name["schema"] for release in released()):
        raise OperationError(f"{file.name}: there is no schema {name['schema']}")
    return Released(0, name["schema"], int(name["version"]), _parsed(file))


def _parsed(file: Path) -> dict[str, Any]:
    try:
        definition: Any = json.loads(file.read_bytes())
        parse_schema(definition)
    except (ValueError, TypeError, KeyError, AttributeError, SchemaParseException) as fault:
        raise OperationError(f"{file.name} is no Avro schema: {fault}") from None
    if not isinstance(definition, dict) or definition.get("type") != "record":
        raise OperationError(f"{file.name} is no Avro record")
    return dict(definition)
