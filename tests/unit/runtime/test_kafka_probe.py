"""The reason that is given when a port accepts connections and ends them without an answer."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from runtime.cluster import Cluster
from runtime.kafka_probe import find_fault

pytestmark = pytest.mark.anyio


@pytest.fixture
async def closing_port() -> AsyncIterator[str]:
    """As a port is that an engine forwards to a container in which Kafka still starts."""

    def close(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    server = await asyncio.start_server(close, "127.0.0.1", 0)
    async with server:
        host, port = server.sockets[0].getsockname()
        yield f"{host}:{port}"


async def test_a_connection_that_ends_without_an_answer_has_more_than_one_reason(closing_port: str) -> None:
    fault = await find_fault(Cluster(closing_port))

    assert fault is not None
    assert str(fault) == (
        f"Kafka at {closing_port} ends the connection without an answer: it is still starting, or it expects TLS or "
        "SASL, and LEADSTREAM_KAFKA_SECURITY_PROTOCOL is PLAINTEXT"
    )
