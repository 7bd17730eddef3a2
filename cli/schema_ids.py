"""The schema ids to read and write with: the built-in ones, or those of `LEADSTREAM_SCHEMA_REGISTRY_URL`."""

import asyncio

import click

from runtime.settings import Settings
from schemas.codec import BUILT_IN, Ids
from schemas.ids import registry_ids
from schemas.registry_client import RegistryFault, registry_client


def schema_ids(settings: Settings) -> Ids:
    """Registers our schemas where another registry is set; a `ClickException` when it does not take them."""
    return BUILT_IN if settings.schema_registry_url is None else asyncio.run(_registered(settings))


async def _registered(settings: Settings) -> Ids:
    try:
        async with registry_client(settings) as registry:
            return await registry_ids(registry, settings.topic_prefix)
    except RegistryFault as fault:
        raise click.ClickException(str(fault)) from None
