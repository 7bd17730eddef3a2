"""The ids that Kafka gives its topics: a topic that was deleted and made anew has another id."""

import logging
from base64 import urlsafe_b64encode
from collections.abc import Collection
from io import BytesIO
from typing import Any

from aiokafka.client import AIOKafkaClient
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import (
    Boolean,
    CompactArray,
    CompactString,
    Int16,
    Int32,
    Schema,
    TaggedFields,
)

_log = logging.getLogger(__name__)


class _Uuid:
    """16 bytes as Kafka's own tools print them; aiokafka has no such type."""

    @classmethod
    def encode(cls, value: bytes) -> bytes:
        return value

    @classmethod
    def decode(cls, data: BytesIO) -> str:
        return urlsafe_b64encode(data.read(16)).decode().rstrip("=")

    @classmethod
    def repr(cls, value: object) -> str:
        return repr(value)


_UNKNOWN_ID = bytes(16)


class _Metadata12(RequestStruct):  # type: ignore[misc]
    """https://kafka.apache.org/protocol#The_Messages_Metadata, whose newest version in aiokafka has no ids."""

    class _Response(Response):  # type: ignore[misc] # aiokafka is untyped to us
        API_KEY = 3
        API_VERSION = 12
        SCHEMA = Schema(
            ("throttle_time_ms", Int32),
            (
                "brokers",
                CompactArray(
                    ("node_id", Int32),
                    ("host", CompactString("utf-8")),
                    ("port", Int32),
                    ("rack", CompactString("utf-8")),
                    ("tags", TaggedFields),
                ),
            ),
            ("cluster_id", CompactString("utf-8")),
            ("controller_id", Int32),
            (
                "topics",
                CompactArray(
                    ("error_code", Int16),
                    ("topic", CompactString("utf-8")),
                    ("topic_id", _Uuid),
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
                            ("tags", TaggedFields),
                        ),
                    ),
                    ("authorized_operations", Int32),
                    ("tags", TaggedFields),
                ),
            ),
            ("tags", TaggedFields),
        )

    FLEXIBLE_VERSION = True
    API_KEY = 3
    API_VERSION = 12
    RESPONSE_TYPE = _Response
    SCHEMA = Schema(
        (
            "topics",
            CompactArray(("topic_id", _Uuid), ("topic", CompactString("utf-8")), ("tags", TaggedFields)),
        ),
        ("allow_auto_topic_creation", Boolean),
        ("include_topic_authorized_operations", Boolean),
        ("tags", TaggedFields),
    )


class _TopicIdsRequest(Request[_Metadata12]):  # type: ignore[misc]
    API_KEY = 3

    def __init__(self, topics: Collection[str]) -> None:
        self._topics = topics

    def build(self, request_struct_class: type[_Metadata12]) -> _Metadata12:
        topics: list[Any] = [(_UNKNOWN_ID, topic, {}) for topic in self._topics]
        create_topics = include_operations = False
        return request_struct_class(topics, create_topics, include_operations, {})


async def topic_ids(client: AIOKafkaClient, topics: Collection[str]) -> dict[str, str]:
    """The ids of those topics that exist, by name; none where Kafka is older than its topics' ids (3.1).

    Raises `KafkaError` when Kafka does not answer.
    """
    node = client.get_random_node()
    try:
        response: Any = await client.send(node, _TopicIdsRequest(topics))
    except NotImplementedError:
        _log.warning("topic_ids.unknown", extra={"reason": "Kafka is older than 3.1"})
        return {}
    return {name: id_ for error, name, id_, *_ in response.topics if not error}
