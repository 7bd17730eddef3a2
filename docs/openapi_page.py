"""docs/openapi.yaml: what FastAPI says of the two ports of ingest, in one document."""

from typing import Any

import yaml
from fastapi import FastAPI

from ingest.app import create_cold_app
from ingest.body import BodyBudget
from ingest.data_deletion.callback import DataDeletion
from ingest.schema_registry import create_ingest_admin
from ingest.webhooks import Webhooks
from runtime.health import Health
from runtime.metrics import Metrics
from schemas.registry_api import RegistryApi

_HEAD = """\
# Made by `make docs` from the path operations of ingest; do not edit. No port serves it.
# /metrics and the schema registry are on the admin port, which listens on loopback and has no authentication.
"""
_ADMIN = [{"url": "http://127.0.0.1:8001", "description": "the admin port, on loopback"}]


def openapi_page() -> str:
    public, admin = _public().openapi(), _admin().openapi()
    for item in admin["paths"].values():
        item["servers"] = _ADMIN
    # Health is on both ports.
    items = public["paths"] | {path: item for path, item in admin["paths"].items() if path not in public["paths"]}
    document = {
        "openapi": public["openapi"],
        "info": public["info"],
        "servers": [{"url": "http://127.0.0.1:8000", "description": "the public port, behind a proxy that speaks TLS"}],
        "paths": {path: _answered(item) for path, item in items.items()},
    }
    return _HEAD + yaml.dump(document, Dumper=_Plain, sort_keys=False, width=120, default_flow_style=None)


class _Plain(yaml.SafeDumper):
    def ignore_aliases(self, _: Any) -> bool:
        return True


def _public() -> FastAPI:
    # A description needs none of what answers.
    unused: Any = None
    webhooks = Webhooks(unused, Metrics(), unused, unused, secrets=(), verify_token="", instance="")
    return create_cold_app(webhooks, DataDeletion(unused, Metrics(), secrets=(), public_url=None), Health())


def _admin() -> FastAPI:
    return create_ingest_admin(Metrics(), Health(), RegistryApi(), BodyBudget())


def _answered(item: dict[str, Any]) -> dict[str, Any]:
    """Without FastAPI's own refusal of parameters, which no request is answered."""
    for operation in item.values():
        if isinstance(operation, dict) and "HTTPValidationError" in str(operation["responses"].get("422")):
            del operation["responses"]["422"]
    return item
