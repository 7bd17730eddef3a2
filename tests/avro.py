"""Values in the wire format from plain dicts, as fastavro writes them."""

import io
import struct
from collections.abc import Mapping
from typing import Any

import fastavro

from schemas.released import newest


def wire_value(schema: str, plain: Mapping[str, Any]) -> bytes:
    """With the newest release of a schema."""
    return wire_value_of(newest(schema).definition, newest(schema).id, plain)


def wire_value_of(definition: Mapping[str, Any], schema_id: int, plain: Mapping[str, Any]) -> bytes:
    body = io.BytesIO()
    fastavro.schemaless_writer(body, fastavro.parse_schema(dict(definition)), plain)
    return struct.pack(">bI", 0, schema_id) + body.getvalue()
