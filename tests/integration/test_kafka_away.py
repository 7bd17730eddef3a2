"""Stages on a Kafka that stands still: readiness says so within seconds, and that of sinks is back when Kafka is."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from operations.deployment import expected_topics
from runtime.cluster import Cluster
from runtime.local_kafka.node import KafkaNode
from runtime.ports import free_ports
from runtime.settings import Settings, variable
from runtime.topic_admin import apply_topics

pytestmark = [pytest.mark.anyio, pytest.mark.integration]

_PATIENCE = 60
# Not the default, so that the setting is seen to count.
_HOST = "127.0.0.2" if sys.platform == "linux" else "127.0.0.1"


@pytest.fixture
def node(tmp_path: Path) -> Iterator[KafkaNode]:
    made = KafkaNode(tmp_path / "node", free_ports())
    yield made
    running = made.status()
    if running:
        os.kill(running.pid, signal.SIGCONT)
    made.stop()


@asynccontextmanager
async def stage(broker: str, home: Path, *command: str) -> AsyncIterator[str]:
    """A stage as a process; gives the root of its admin port."""
    port = free_ports()
    told = {"broker": broker, "state_dir": home, "warehouse": home / "warehouse", "partitions": 1, "admin_host": _HOST}
    environ = {variable(name): str(value) for name, value in told.items()}
    with (home / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "cli", *command, "--admin-port", str(port),
            stdout=log, stderr=log, env={**os.environ, **environ},
        )  # fmt: skip
    try:
        yield f"http://{_HOST}:{port}"
    finally:
        # Streams may have ended by itself: a worker whose group went on without it is started again, not mended.
        with suppress(ProcessLookupError):
            process.terminate()
        await process.wait()


async def readiness(url: str, *, ready: bool) -> dict[str, Any]:
    """The parts once the stage is as ready as this."""
    async with asyncio.timeout(_PATIENCE), httpx.AsyncClient() as http:
        while True:
            try:
                answer = await http.get(f"{url}/readyz")
            except httpx.TransportError:
                await asyncio.sleep(0.1)
                continue
            if answer.json()["ready"] is ready and (answer.status_code == 200) is ready:
                return dict(answer.json()["parts"])
            await asyncio.sleep(0.1)


async def every_lag(url: str, expected: str) -> None:
    """Returns once the lag of each partition is this."""
    async with asyncio.timeout(_PATIENCE), httpx.AsyncClient() as http:
        lags: set[str] = set()
        while lags != {expected}:
            await asyncio.sleep(0.1)
            lines = (await http.get(f"{url}/metrics")).text.splitlines()
            lags = {line.rpartition(" ")[2] for line in lines if line.startswith("leadstream_consumer_lag{")}


@pytest.mark.parametrize("command", [("sink", "warehouse"), ("streams",)], ids=" ".join)
async def test_a_stage_is_red_while_kafka_stands_still(
    node: KafkaNode, tmp_path: Path, command: tuple[str, ...]
) -> None:
    broker = await asyncio.to_thread(node.start, lambda _: None)
    await apply_topics(Cluster(broker), expected_topics(Settings(broker=broker, partitions=1)))
    running = node.status()
    assert running is not None
    async with stage(broker, tmp_path, *command) as url:
        assert (await readiness(url, ready=True))["kafka"] == {"ready": True, "seen": ""}

        os.kill(running.pid, signal.SIGSTOP)
        away = await readiness(url, ready=False)
        await every_lag(url, "NaN")
        os.kill(running.pid, signal.SIGCONT)
        if command != ("streams",):
            assert (await readiness(url, ready=True))["kafka"] == {"ready": True, "seen": ""}
            await every_lag(url, "0.0")

    assert away["kafka"]["ready"] is False
    assert away["kafka"]["seen"].startswith(("no answer within", "no heartbeat was answered for"))


@pytest.mark.parametrize("command", [("sink", "warehouse"), ("streams",)], ids=" ".join)
async def test_a_stage_ends_though_kafka_does_not_answer(
    node: KafkaNode, tmp_path: Path, command: tuple[str, ...]
) -> None:
    broker = await asyncio.to_thread(node.start, lambda _: None)
    await apply_topics(Cluster(broker), expected_topics(Settings(broker=broker, partitions=1)))
    running = node.status()
    assert running is not None

    async with asyncio.timeout(_PATIENCE), stage(broker, tmp_path, *command) as url:
        await readiness(url, ready=True)
        os.kill(running.pid, signal.SIGSTOP)
