"""`--skip`: a record that an operator has a stage set aside unread, because it ends the stage."""

import asyncio
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, TypeVar

import click
from aiokafka import TopicPartition

from cli.terminal import say
from operations.broker import broker_of, kafka_answers
from runtime import kafka
from runtime.cluster import Cluster
from runtime.settings import Settings
from runtime.suspect import Place
from runtime.topic_admin import existing_topics
from schemas.topics import Topic

_Command = TypeVar("_Command", bound=Callable[..., Any])


def skip_option(wanted: _Command) -> _Command:
    """The option, which can be given several times."""
    return click.option(
        "--skip",
        multiple=True,
        metavar="TOPIC:PARTITION:OFFSET",
        help="A record to set aside as a dead letter, unread.",
    )(wanted)


def places(settings: Settings, skip: Iterable[str]) -> frozenset[Place]:
    """The places, with topics as they are called on the cluster. Raises `click.ClickException` for what is none."""
    return frozenset(_place(settings, text) for text in skip)


def _place(settings: Settings, text: str) -> Place:
    topic, *numbers = text.split(":")
    if len(numbers) != 2 or not all(number.isascii() and number.isdigit() for number in numbers):
        raise click.ClickException(f"--skip {text}: expected TOPIC:PARTITION:OFFSET, such as messenger-webhooks:3:41")
    is_full = bool(settings.topic_prefix) and topic.startswith(settings.topic_prefix)
    return topic if is_full else settings.topic(topic), int(numbers[0]), int(numbers[1])


def skippable(settings: Settings, skip: Sequence[str], *, group: str, topics: Collection[Topic]) -> frozenset[Place]:
    """The places, if the group has yet to pass each. Raises `click.ClickException` otherwise."""
    wanted = places(settings, skip)
    for topic, _, _ in wanted:
        if topic not in {settings.topic(one.name) for one in topics}:
            names = ", ".join(one.name for one in topics)
            raise click.ClickException(f"--skip {topic}: this command reads {names}")
    if wanted:
        with kafka_answers():
            asyncio.run(_require_ahead(broker_of(settings), group, wanted))
    return wanted


async def _require_ahead(broker: Cluster, group: str, wanted: Collection[Place]) -> None:
    existing = await existing_topics(broker, {topic for topic, _, _ in wanted})
    consumer = kafka.consumer(broker, group=group, client_id="leadstream-skip")
    await consumer.start()
    try:
        for topic, number, offset in wanted:
            partition = TopicPartition(topic, number)
            if topic not in existing or number >= existing[topic].partitions:
                raise click.ClickException(f"--skip: {topic} has no partition {number}")
            begin = (await consumer.beginning_offsets([partition]))[partition]
            end = (await consumer.end_offsets([partition]))[partition]
            at = await consumer.committed(partition)
            first = begin if at is None else at
            if not first <= offset < end:
                raise click.ClickException(
                    f"--skip {topic}:{number}:{offset}: {group} is at offset {first} and the log ends at {end}:"
                    f" only a record from {first} on that is there can be skipped"
                )
            say(f"{topic}/{number}/{offset} will be a dead letter, unread", err=True)
    finally:
        await consumer.stop()
