"""Let a stage go on without a record that an operator skips, or without records that Kafka has lost."""

import asyncio
from collections.abc import Callable, Collection, Iterable, Sequence

from aiokafka import TopicPartition

from operations.deployment import Deployment
from operations.reporting import OperationError
from runtime import kafka
from runtime.losses import Accepted
from runtime.settings import Settings
from runtime.suspect import Place
from runtime.topic_admin import existing_topics
from schemas.topics import Topic


def skipped_places(settings: Settings, texts: Iterable[str], topics: Collection[Topic]) -> frozenset[Place]:
    """The places that the values of `--skip` name, all of these topics. Raises `OperationError`."""
    names = {settings.topic(topic.name) for topic in topics}
    places = set[Place]()
    for text in texts:
        place = _place(settings, text, names)
        if place is None:
            raise OperationError(f"--skip {text}: expected TOPIC:PARTITION:OFFSET, such as messenger-webhooks:3:41")
        if place[0] not in names:
            readable = ", ".join(topic.name for topic in topics)
            raise OperationError(f"--skip {place[0]}: this command reads {readable}")
        places.add(place)
    return frozenset(places)


def accepted_losses(settings: Settings, texts: Sequence[str], topics: Collection[str]) -> Accepted:
    """The losses that the values of `--accept-loss` name, all of these topics. Raises `OperationError`."""
    places, whole = set[Place](), set[str]()
    for text in texts:
        name = text.partition(":")[0]
        topic = _full_name(settings, name, topics)
        if topic not in topics:
            raise OperationError(f"--accept-loss {name}: expected one of {', '.join(sorted(topics))}")
        place = _place(settings, text, topics)
        if place is not None:
            places.add(place)
        elif ":" not in text:
            whole.add(topic)
        else:
            raise OperationError(
                f"--accept-loss {text}: expected TOPIC:PARTITION:OFFSET as the stage named it, or TOPIC"
            )
    return Accepted(places, whole)


def _place(settings: Settings, text: str, topics: Collection[str]) -> Place | None:
    topic, *numbers = text.split(":")
    if len(numbers) != 2 or not all(number.isascii() and number.isdigit() for number in numbers):
        return None
    return _full_name(settings, topic, topics), int(numbers[0]), int(numbers[1])


def _full_name(settings: Settings, topic: str, topics: Collection[str]) -> str:
    """The name on the cluster, which an operator may give with or without the prefix."""
    return topic if topic in topics else settings.topic(topic)


def require_ahead(deployment: Deployment, group: str, places: Collection[Place], say: Callable[[str], None]) -> None:
    """Raises `OperationError` unless the consumer group has yet to pass each place, and a record is there."""
    if places:
        asyncio.run(_require_ahead(deployment, group, places))
    for topic, partition, offset in places:
        say(f"{topic}/{partition}/{offset} will be a dead letter, unread")


async def _require_ahead(deployment: Deployment, group: str, places: Collection[Place]) -> None:
    existing = await existing_topics(deployment.broker, {topic for topic, _, _ in places})
    async with kafka.consumer(deployment.broker, group=group, client_id="leadstream-skip") as consumer:
        for topic, number, offset in places:
            partition = TopicPartition(topic, number)
            if topic not in existing or number >= existing[topic].partitions:
                raise OperationError(f"--skip: {topic} has no partition {number}")
            begin = (await consumer.beginning_offsets([partition]))[partition]
            end = (await consumer.end_offsets([partition]))[partition]
            committed = await consumer.committed(partition)
            first = begin if committed is None else committed
            if not first <= offset < end:
                raise OperationError(
                    f"--skip {topic}:{number}:{offset}: {group} is at offset {first} and the log ends at {end}:"
                    f" only an existing record from {first} on can be skipped"
                )
