"""Kafka's metadata of topics in version 12, which aiokafka lacks: their ids, and the operations that we may do."""

import logging
from base64 import urlsafe_b64encode
from collections.abc import Collection
from struct import pack
from typing import Any

from aiokafka.client import AIOKafkaClient
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import Boolean, CompactArray, CompactString, Int16, Int32, Int64, Schema, TaggedFields

_log = logging.getLogger(__name__)

_TAGS = ("tags", TaggedFields)
# A Uuid of Kafka's, which aiokafka has no type for.
_TOPIC_ID = (("id_high", Int64), ("id_low", Int64))


# https://kafka.apache.org/protocol#The_Messages_Metadata
class _Metadata(RequestStruct):  # type: ignore[misc] # aiokafka is untyped to us
    class _Response(Response):  # type: ignore[misc]
        API_KEY = 3
        API_VERSION = 12
        SCHEMA = Schema(
            ("throttle_time_ms", Int32),
            (
                "brokers",
                CompactArray(
                    ("node_id", Int32), ("host", CompactString()), ("port", Int32), ("rack", CompactString()), _TAGS
                ),
            ),
            ("cluster_id", CompactString()),
            ("controller_id", Int32),
            (
                "topics",
                CompactArray(
                    ("error_code", Int16),
                    ("topic", CompactString()),
                    *_TOPIC_ID,
                    ("is_internal", Boolean),
                    (
                        "partitions",
                        CompactArray(
                            ("error_code", Int16),
                            ("partition", Int32),
                            ("leader", Int32),
                            ("leader_epoch", Int32),
                            ("replicas", CompactArray(Int32)),
                            ("isr", CompactArray(Int32)),
                            ("offline", CompactArray(Int32)),
                            _TAGS,
                        ),
                    ),
                    ("authorized_operations", Int32),
                    _TAGS,
                ),
            ),
            _TAGS,
        )

    FLEXIBLE_VERSION = True
    API_KEY = 3
    API_VERSION = 12
    RESPONSE_TYPE = _Response
    SCHEMA = Schema(
        ("topics", CompactArray(*_TOPIC_ID, ("topic", CompactString()), _TAGS)),
        ("allow_auto_topic_creation", Boolean),
        ("include_topic_authorized_operations", Boolean),
        _TAGS,
    )


class _MetadataRequest(Request[_Metadata]):  # type: ignore[misc]
    API_KEY = 3

    def __init__(self, topics: Collection[str]) -> None:
        self._topics = topics

    def build(self, request_struct_class: type[_Metadata]) -> _Metadata:
        no_id, create_topics, include_operations = (0, 0), False, True
        topics: list[Any] = [(*no_id, topic, {}) for topic in self._topics]
        return request_struct_class(topics, create_topics, include_operations, {})


async def topic_ids(client: AIOKafkaClient, topics: Collection[str]) -> dict[str, str]:
    """The ids of those topics that exist, by name; none where Kafka is older than its topics' ids (3.1).

    A topic that was deleted and made anew has another id. Raises `KafkaError` when Kafka does not answer.
    """
    if not topics:
        return {}
    try:
        answers = await _metadata(client, topics)
    except NotImplementedError:
        _log.warning("topic_ids.unknown", extra={"reason": "Kafka is older than 3.1"})
        return {}
    # As Kafka's own tools print them.
    ids = {name: urlsafe_b64encode(pack(">qq", high, low)) for error, name, high, low, *_ in answers if not error}
    return {name: id_.decode().rstrip("=") for name, id_ in ids.items()}


async def allowed_operations(client: AIOKafkaClient, topics: Collection[str]) -> dict[str, tuple[int, int]]:
    """The error code and the bits of the allowed operations of each topic; none where Kafka is older than 3.1."""
    try:
        answers = await _metadata(client, topics)
    except NotImplementedError:
        return {}
    return {name: (error, operations) for error, name, *_, operations, _tags in answers}


async def _metadata(client: AIOKafkaClient, topics: Collection[str]) -> list[Any]:
    response: Any = await client.send(client.get_random_node(), _MetadataRequest(topics))
    return list(response.topics)
