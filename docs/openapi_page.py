"""docs/openapi.yaml: the paths of both ports of ingest as FastAPI has them, with what it cannot see.

Ingest reads bodies and headers itself, within bounds, and has one table from fault to answer; so bodies, headers and
refusals are described here. A test holds all of it to what the ports answer.
"""

from collections.abc import Mapping
from typing import Any

import yaml
from fastapi import FastAPI

from ingest.app import create_cold_app
from ingest.body import BodyBudget
from ingest.data_deletion.callback import DELETION_PATH, FORM, STATUS_PATH, DataDeletion
from ingest.schema_registry import create_ingest_admin
from ingest.webhooks import WEBHOOK_PATH, Webhooks
from messenger.signature import CHALLENGE_MAX
from runtime.health import Health
from runtime.metrics import Metrics
from schemas.registry_api import CONTENT_TYPE, RegistryApi

_HEAD = """\
# Made by `make docs` from the path operations of ingest; do not edit. No port serves it.
# Paths with servers of their own are on the admin port, which listens on loopback and has no authentication.
"""
_PUBLIC = [{"url": "http://127.0.0.1:8000", "description": "the public port, behind a proxy that speaks TLS"}]
_ADMIN = [{"url": "http://127.0.0.1:8001", "description": "the admin port, on loopback"}]

Json = dict[str, Any]

_STRING, _BOOLEAN = {"type": "string"}, {"type": "boolean"}
_TEXT = {"text/plain": {"schema": _STRING}}


def _object(required: str, **properties: Any) -> Json:
    return {"type": "object", "required": required.split(), "properties": properties}


def _json(schema: Any, media_type: str = "application/json") -> Json:
    return {media_type: {"schema": schema}}


def _refused(*statuses: int) -> Json:
    answer = {"description": "Refused, with a code of reasons.md.", "content": _TEXT}
    later = {"headers": {"Retry-After": {"required": True, "schema": {"type": "integer"}}}}
    return {str(status): answer | (later if status == 503 else {}) for status in statuses}


_ALIVE = _json(_object("status", status={"enum": ["alive", "crashed"]}, seen=_STRING))
_PART = _object("ready seen", ready=_BOOLEAN, seen=_STRING)
_READY = _json(_object("ready parts", ready=_BOOLEAN, parts={"type": "object", "additionalProperties": _PART}))
_HTML = {"text/html": {"schema": _STRING}}
_DETAILS: Mapping[tuple[str, str], Json] = {
    (WEBHOOK_PATH, "get"): {
        "summary": "Meta's question whether this webhook is ours.",
        "parameters": [
            {"name": name, "in": "query", "required": True, "schema": schema}
            for name, schema in {
                "hub.mode": {"const": "subscribe"},
                "hub.verify_token": _STRING,
                "hub.challenge": {"type": "string", "minLength": 1, "maxLength": CHALLENGE_MAX},
            }.items()
        ],
        "responses": {"200": {"description": "The challenge.", "content": _TEXT}, **_refused(403)},
    },
    (WEBHOOK_PATH, "post"): {
        "summary": "Take a delivery, and answer once it is durable.",
        "description": "The body is kept byte for byte once its signature holds. Meta delivers again after any other "
        "answer than 200.",
        "parameters": [
            {
                "name": "X-Hub-Signature-256",
                "in": "header",
                "required": True,
                "description": "`sha256=` and the HMAC of the body with an app secret, in lower-case hex; once.",
                "schema": {"type": "string", "pattern": "^sha256=[0-9a-f]{64}$"},
            }
        ],
        "requestBody": {
            "description": "At most 4 MiB, without Content-Encoding but `identity`, within 5 seconds.",
            "content": {"application/json": {"schema": True}},
        },
        "responses": {
            "200": {
                "description": "The delivery is in Kafka, or on disk in the spool from which it goes there.",
                "headers": {
                    "Leadstream-Receipt": {
                        "required": True,
                        "description": "`<topic>/<partition>/<offset>`, or `spool/<name>/<position>`; see "
                        "`leadstream verify`.",
                        "schema": {"type": "string", "pattern": "^[^/]+/[^/]+/[0-9]+$"},
                    }
                },
                "content": {"text/plain": {"schema": {"const": "EVENT_RECEIVED"}}},
            },
            **_refused(400, 403, 413, 415, 503),
        },
    },
    (DELETION_PATH, "post"): {
        "summary": "Meta's data-deletion callback.",
        "requestBody": {
            "description": "At most 16 KiB.",
            "content": _json(_object("signed_request", signed_request=_STRING), FORM),
        },
        "responses": {
            "200": {
                "description": "The request is in Kafka.",
                "content": _json(_object("url confirmation_code", url=_STRING, confirmation_code=_STRING)),
            },
            **_refused(400, 403, 413, 415, 503),
        },
    },
    (STATUS_PATH, "get"): {
        "summary": "The page that tells a person what became of a request.",
        "responses": {
            "200": {"description": "What became of it.", "content": _HTML},
            "404": {"description": "Nobody was given this code.", "content": _HTML},
            "503": {"description": "The state of requests cannot be read now.", "content": _HTML},
        },
    },
    ("/healthz", "get"): {
        "summary": "Whether the process lives.",
        "responses": {
            "200": {"description": "It lives.", "content": _ALIVE},
            "503": {"description": "It has crashed and should be replaced.", "content": _ALIVE},
        },
    },
    ("/readyz", "get"): {
        "summary": "Whether webhooks can be kept, and the state of Kafka, the spool and the other parts.",
        "responses": {
            "200": {"description": "They can be kept.", "content": _READY},
            "503": {"description": "The spool is full, or the process stops.", "content": _READY},
        },
    },
    ("/metrics", "get"): {
        "summary": "The metrics of metrics.md in Prometheus' text format.",
        "responses": {"200": {"description": "All metrics.", "content": _TEXT}},
    },
}

_ERROR = {
    "description": "Refused, in Confluent's words.",
    "content": _json(_object("error_code message", error_code={"type": "integer"}, message=_STRING), CONTENT_TYPE),
}
_OF_REGISTRY = {"get": {"responses": {"404": _ERROR, "422": _ERROR}}}
_OF_REGISTRY["post"] = {
    "requestBody": {
        "required": True,
        "content": _json(_object("schema", schema=_STRING, schemaType={"const": "AVRO"})),
    },
    "responses": {
        **_OF_REGISTRY["get"]["responses"],
        "400": {"description": "The client hung up."},
        "413": {"description": "The body is over 1 MiB."},
        "503": {"description": "The bodies under way take all the memory that they may."},
    },
}


def openapi_page() -> str:
    public, admin = _public().openapi(), _admin().openapi()
    # Health is on both ports.
    of_admin = {path: item for path, item in admin["paths"].items() if path not in public["paths"]}
    paths = {path: _described(path, item) for path, item in {**public["paths"], **of_admin}.items()}
    for path in of_admin:
        paths[path]["servers"] = _ADMIN
    document = {"openapi": public["openapi"], "info": public["info"], "servers": _PUBLIC, "paths": paths}
    return _HEAD + yaml.dump(document, Dumper=_WithoutAliases, sort_keys=False, width=120, default_flow_style=None)


class _WithoutAliases(yaml.SafeDumper):
    def ignore_aliases(self, _: Any) -> bool:
        return True


def _public() -> FastAPI:
    # A description needs none of what answers.
    unused: Any = None
    webhooks = Webhooks(unused, Metrics(), unused, unused, secrets=(), verify_token="", instance="")
    return create_cold_app(webhooks, DataDeletion(unused, Metrics(), secrets=(), public_url=None), Health())


def _admin() -> FastAPI:
    return create_ingest_admin(Metrics(), Health(), RegistryApi(), BodyBudget())


def _described(path: str, item: Json) -> Json:
    return {method: _operation(path, method, operation) for method, operation in item.items()}


def _operation(path: str, method: str, operation: Json) -> Json:
    details = _DETAILS.get((path, method))
    if details is not None:
        return {**operation, **details}
    details = _OF_REGISTRY[method]
    # FastAPI says that it refuses parameters with 422; here the registry answers.
    return {**operation, **details, "responses": {**operation["responses"], **details["responses"]}}
