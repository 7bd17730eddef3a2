"""docs/asyncapi.yaml says of every topic what the code does, and refers to nothing that is not there."""

from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from avro.schema import make_avsc_object

from docs.asyncapi_page import asyncapi_page
from schemas.released import newest
from schemas.topics import TOPICS, Topic

DOCUMENT: dict[str, Any] = yaml.safe_load(asyncapi_page())


def test_the_parts_that_the_specification_requires_are_there() -> None:
    assert DOCUMENT["asyncapi"] == "3.0.0"
    assert all(DOCUMENT["info"][key] for key in ("title", "version"))
    assert all({"action", "channel"} <= operation.keys() for operation in DOCUMENT["operations"].values())
    assert {operation["action"] for operation in DOCUMENT["operations"].values()} == {"send", "receive"}


@pytest.mark.parametrize("topic", TOPICS, ids=[topic.name for topic in TOPICS])
def test_every_topic_is_a_channel_that_is_written_and_read(topic: Topic) -> None:
    channel = DOCUMENT["channels"][topic.name]
    used = [
        operation["action"]
        for operation in DOCUMENT["operations"].values()
        if operation["channel"]["$ref"].endswith(f"/{topic.name}")
    ]

    assert channel["address"] == channel["bindings"]["kafka"]["topic"] == topic.name
    assert channel["bindings"]["kafka"]["topicConfiguration"]["cleanup.policy"] == [topic.cleanup]
    assert used == ["send", "receive"]
    assert list(channel["messages"]) == [topic.schema or "bytes"]


def test_no_other_channel_is_described() -> None:
    assert DOCUMENT["channels"].keys() == {topic.name for topic in TOPICS}


@pytest.mark.parametrize("schema", sorted({topic.schema for topic in TOPICS if topic.schema}))
def test_a_message_carries_the_newest_avro_schema(schema: str) -> None:
    payload = DOCUMENT["components"]["messages"][schema]["payload"]

    assert payload["schema"] == newest(schema).definition
    make_avsc_object(payload["schema"])


def test_every_reference_leads_somewhere() -> None:
    references = set(_references(DOCUMENT))

    assert references
    for reference in references:
        here = DOCUMENT
        for step in reference.removeprefix("#/").split("/"):
            here = here[step]
        assert here


def _references(part: Any) -> Iterator[str]:
    if isinstance(part, dict):
        for name, value in part.items():
            if name == "$ref":
                yield value
            else:
                yield from _references(value)
    elif isinstance(part, list):
        for value in part:
            yield from _references(value)
