"""Writes follow-up commands and stages of leads, each under its key, and waits until they are durable."""

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import Any, Self

from leads.records import LeadStage, SendFollowUp
from leadstream.connection import Connection, connect, one_line_faults
from leadstream.errors import ClientError
from leadstream.making import require_sendable, require_stage
from messenger.events import person_key
from runtime import kafka
from schemas.codec import command_codec, stage_codec
from schemas.topics import COMMANDS, STAGES, Topic

_CLOSES_WITHIN = 10.0


class AsyncWriter:
    """Writes `SendFollowUp` and `LeadStage` records: `async with AsyncWriter() as writer`, then `await writer.send(…)`.

    `environ` has `LEADSTREAM_…` variables in the place of the process's. Opening raises `ClientError`.
    """

    def __init__(self, *, timeout: float = 30.0, environ: Mapping[str, str] | None = None) -> None:
        self._timeout, self._environ = timeout, environ
        self._writing: _Writing | None = None

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as opened:
            connection = await connect(self._environ)
            producer = kafka.producer(connection.cluster, client_id="leadstream-client")
            opened.push_async_callback(kafka.stop_within, producer, _CLOSES_WITHIN)
            async with one_line_faults(connection.cluster):
                await producer.start()
            self._writing = _Writing(connection, producer)
            self._opened = opened.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._writing = None
        await self._opened.aclose()

    async def send(self, *records: SendFollowUp | LeadStage) -> None:
        """Write the records; returns when all in-sync replicas have all of them.

        Raises `ValueError` for a record that the sinks would refuse, before it writes any. Raises `ClientError` where
        Kafka refuses, or does not confirm all within `timeout` seconds. Then some may be written all the same: send all
        again, for the ids are the same and count once.
        """
        if self._writing is None:
            raise ClientError("not open: read and write in a `with` block")
        try:
            async with asyncio.timeout(self._timeout):
                await self._writing.send(records)
        except TimeoutError:
            raise ClientError(
                f"Kafka did not confirm the records within {self._timeout:g} seconds: send them again"
            ) from None


class _Writing:
    """A producer between its start and its end."""

    def __init__(self, connection: Connection, producer: Any) -> None:
        self._connection, self._producer = connection, producer
        self._commands, self._stages = command_codec(connection.ids), stage_codec(connection.ids)
        self._found: set[str] = set()

    async def send(self, records: tuple[SendFollowUp | LeadStage, ...]) -> None:
        encoded = [self._encoded(record) for record in records]
        for topic in {topic.name: topic for topic, _, _ in encoded}.values():
            await self._require(topic)
        async with one_line_faults(self._connection.cluster):
            acks = [
                await self._producer.send(f"{self._connection.prefix}{topic.name}", value, key=key.encode())
                for topic, key, value in encoded
            ]
            await asyncio.gather(*acks)

    def _encoded(self, record: SendFollowUp | LeadStage) -> tuple[Topic, str, bytes]:
        """The topic, the key and the value. aiokafka places a key as Kafka's own partitioner does, by murmur2."""
        if isinstance(record, SendFollowUp):
            require_sendable(record)
            return COMMANDS, person_key(record.page_id, record.psid), self._commands.encode(record)
        require_stage(record)
        return STAGES, record.lead_id, self._stages.encode(record)

    async def _require(self, topic: Topic) -> None:
        """A broker that makes missing topics by itself would make them with other settings than ours."""
        if topic.name not in self._found:
            await self._connection.partitions(topic)
            self._found.add(topic.name)
