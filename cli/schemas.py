"""`leadstream schemas …`: is a new version safe, and are ours known to the registry."""

import asyncio
import json
import re
from itertools import combinations
from pathlib import Path
from typing import Any

import click
from fastavro.schema import SchemaParseException, parse_schema

from cli.terminal import say
from operations.environment import current_settings
from runtime.settings import Settings
from schemas.codec import SchemaIds
from schemas.compatibility import breaks, retypes
from schemas.registry_api import COMPATIBILITY
from schemas.registry_client import RegistryFault, registry_client, registry_ids, require_compatibility
from schemas.released import Released, released

_CANDIDATE = re.compile(r"(?P<schema>[a-z][a-z-]*)\.v(?P<version>[1-9][0-9]*)")


@click.group()
def command() -> None:
    """Check and register the Avro schemas of the topics."""


@command.command("check")
@click.argument("files", nargs=-1, type=click.Path(exists=True, dir_okay=False, path_type=Path))
def check(files: tuple[Path, ...]) -> None:
    """Check that all released versions read each other, and FILES (such as lead.v3.avsc) with them.

    Ends non-zero and names the field when a version breaks another, or keeps its readers and not the warehouse's
    columns, as text that becomes bytes does. What has to break is a new topic version: docs/topics.md says how.

    \b
    Example:
      leadstream schemas check
      leadstream schemas check lead.v3.avsc
    """
    candidates = [_candidate(file) for file in files]
    everything = [*released(), *candidates]
    faults = [
        f"{one.schema}.v{newer.version} and v{one.version}: {fault}"
        for one, newer in combinations(everything, 2)
        if one.schema == newer.schema
        for find in (breaks, retypes)
        for fault in find(one.definition, newer.definition)
    ]
    if faults:
        raise click.ClickException("\n".join(faults))
    say(f"{len(everything)} schemas, each version reads every other ({COMPATIBILITY})")


@command.command("register")
def register() -> None:
    """Register the released schemas with LEADSTREAM_SCHEMA_REGISTRY_URL and hold their subjects to FULL_TRANSITIVE.

    Safe to repeat: a schema that is there keeps its id. Where registering is forbidden, ids are looked up.

    \b
    Example:
      LEADSTREAM_SCHEMA_REGISTRY_URL=http://registry:8081 leadstream schemas register
    """
    settings = current_settings()
    settings.require("schema_registry_url")
    ids, held = asyncio.run(_register(settings))
    for schema, known in ids.items():
        say(f"{schema}: {', '.join(map(str, known.definitions))}")
    if not held:
        say(f"The registry does not let us set {COMPATIBILITY}; its own level holds")


async def _register(settings: Settings) -> tuple[dict[str, SchemaIds], bool]:
    try:
        async with registry_client(settings) as registry:
            ids = await registry_ids(registry, settings.topic_prefix)
            return ids, await require_compatibility(registry, settings.topic_prefix)
    except RegistryFault as fault:
        raise click.ClickException(str(fault)) from None


def _candidate(file: Path) -> Released:
    named = _CANDIDATE.fullmatch(file.stem)
    if named is None or file.suffix != ".avsc":
        raise click.ClickException(f"{file.name} is not named as a version of a schema: lead.v3.avsc")
    if all(one.schema != named["schema"] for one in released()):
        raise click.ClickException(f"{file.name}: there is no schema {named['schema']}")
    return Released(0, named["schema"], int(named["version"]), _parsed(file))


def _parsed(file: Path) -> dict[str, Any]:
    try:
        definition: Any = json.loads(file.read_bytes())
        parse_schema(definition)
    except (ValueError, TypeError, KeyError, AttributeError, SchemaParseException) as fault:
        raise click.ClickException(f"{file.name} is no Avro schema: {fault}") from None
    if not isinstance(definition, dict) or definition.get("type") != "record":
        raise click.ClickException(f"{file.name} is no Avro record")
    return dict(definition)
