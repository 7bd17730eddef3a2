"""The schema ids to read and write with: the built-in ones, or those of `LEADSTREAM_SCHEMA_REGISTRY_URL`."""

import asyncio

import click
import httpx

from runtime.settings import Settings
from schemas.codec import BUILT_IN, Ids
from schemas.ids import NoSchemaId, registry_ids


def schema_ids(settings: Settings) -> Ids:
    """Registers our schemas where another registry is set; a `ClickException` when it does not take them."""
    return BUILT_IN if settings.schema_registry_url is None else asyncio.run(_registered(settings))


async def _registered(settings: Settings) -> Ids:
    try:
        async with httpx.AsyncClient() as http:
            return await registry_ids(settings.schema_registry_url or "", http, settings.topic_prefix)
    except NoSchemaId as fault:
        raise click.ClickException(str(fault)) from None
