"""docs/asyncapi.yaml: the topics as an AsyncAPI 3 document, for catalogues and generators of client code.

https://www.asyncapi.com/docs/reference/specification/v3.0.0
"""

from importlib.metadata import version
from typing import Any

import yaml

from schemas.registry_api import COMPATIBILITY
from schemas.released import newest, released
from schemas.topics import TOPICS, Topic

_AVRO = "application/vnd.apache.avro+json;version=1.9.0"
_DESCRIPTION = (
    "The topics of leadstream. Made by `make docs` from `schemas/`; do not edit. Values of topics with a schema are "
    "Avro in Confluent's wire format; a field with `pii` is about a person."
)
# https://github.com/asyncapi/bindings/tree/master/kafka#topicconfiguration-object
_NUMBERS = ("retention.ms", "max.message.bytes")


def asyncapi_page() -> str:
    schemas = sorted({schema.schema for schema in released()})
    document = {
        "asyncapi": "3.0.0",
        "info": {
            "title": "leadstream",
            "version": version("leadstream"),
            "description": _DESCRIPTION,
            "license": {"name": "Apache-2.0"},
        },
        "channels": {topic.name: _channel(topic) for topic in TOPICS},
        "operations": {name: operation for topic in TOPICS for name, operation in _operations(topic).items()},
        "components": {"messages": {schema: _message(schema) for schema in schemas} | {"bytes": _bytes()}},
    }
    return yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=120)


def _channel(topic: Topic) -> dict[str, Any]:
    name = topic.schema or "bytes"
    configuration: dict[str, Any] = {"cleanup.policy": [topic.cleanup]}
    configuration |= {name: int(topic.settings[name]) for name in _NUMBERS if name in topic.settings}
    return {
        "address": topic.name,
        "description": f"{topic.description} Key: {topic.key}.",
        "messages": {name: {"$ref": f"#/components/messages/{name}"}},
        "bindings": {"kafka": {"topic": topic.name, "topicConfiguration": configuration}},
    }


def _operations(topic: Topic) -> dict[str, Any]:
    def operation(action: str, by: str) -> dict[str, Any]:
        return {"action": action, "channel": {"$ref": f"#/channels/{topic.name}"}, "summary": f"By {by}"}

    return {
        f"write-{topic.name}": operation("send", topic.producer),
        f"read-{topic.name}": operation("receive", topic.consumers),
    }


def _message(schema: str) -> dict[str, Any]:
    newest_release = newest(schema)
    definition = newest_release.definition
    return {
        "name": definition["name"],
        "summary": definition["doc"],
        "description": f"Version {newest_release.version}; versions are {COMPATIBILITY}.",
        "contentType": "avro/binary",
        "bindings": {"kafka": {"schemaIdLocation": "payload", "schemaIdPayloadEncoding": "confluent"}},
        "payload": {"schemaFormat": _AVRO, "schema": definition},
    }


def _bytes() -> dict[str, Any]:
    return {
        "name": "Bytes",
        "summary": "Bytes as they came from outside; what they say is not promised.",
        "contentType": "application/octet-stream",
        "payload": {"type": "string", "format": "binary"},
    }
