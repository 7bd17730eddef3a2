"""The local Kafka node itself: what it promises to those who start, stop and kill it."""

import os
import signal
import sys
from pathlib import Path

import anyio.to_thread
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from click.testing import CliRunner

from cli.main import main
from runtime.cluster import Cluster
from runtime.local_kafka.node import KafkaNode, answers, running_broker
from runtime.ports import free_ports
from runtime.topic_admin import ExpectedTopic, apply_topics

pytestmark = pytest.mark.integration


@pytest.mark.anyio
async def test_acknowledged_records_survive_a_stop_and_a_kill(tmp_path: Path) -> None:
    node = KafkaNode(tmp_path, free_ports())
    try:
        broker = await start(node)
        await apply_topics(Cluster(broker), [ExpectedTopic("kept", 1, 1, {})])
        await write(broker, b"before the stop")
        assert node.stop()
        await start(node)
        await write(broker, b"before the kill")
        kill(node)
        assert running_broker(tmp_path) is None
        await start(node)

        assert await read(broker, 2) == [b"before the stop", b"before the kill"]
    finally:
        node.stop()


def test_commands_start_show_and_stop_one_node(tmp_path: Path) -> None:
    """The state directory has a space and an accent, as home directories do, and the locale knows no accents."""
    state_dir = tmp_path / "état un"
    port = free_ports()
    run = CliRunner(env={"LEADSTREAM_STATE_DIR": str(state_dir), "LEADSTREAM_BROKER": "", "LC_ALL": "C"})
    try:
        before = run.invoke(main, ["kafka", "status"])
        started = run.invoke(main, ["kafka", "start", "--port", str(port)])
        again = run.invoke(main, ["kafka", "start", "--port", str(port + 1)])
        shown = run.invoke(main, ["kafka", "status"])
        other = run.invoke(main, ["kafka", "start", "--port", str(port), "--state-dir", str(tmp_path / "other")])
    finally:
        stopped = run.invoke(main, ["kafka", "stop"])
    after = run.invoke(main, ["kafka", "status"])

    broker = f"127.0.0.1:{port}"
    assert [result.exit_code for result in (before, started, again, shown, stopped, after)] == [1, 0, 0, 0, 0, 1]
    assert other.exit_code == 1
    assert f"Kafka runs at {broker};" in started.output
    assert f"Kafka runs at {broker};" in again.output
    assert f"Kafka runs at {broker}, process " in shown.output
    assert f"{broker} for the local Kafka is taken by another program" in other.output
    assert stopped.output == "Kafka has stopped\n"


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_nobody_else_reads_its_records_and_it_has_no_secret(tmp_path: Path) -> None:
    (tmp_path / "state/kafka").mkdir(parents=True)
    (tmp_path / "state/kafka").chmod(0o755)  # as older releases left it
    (tmp_path / "pages.yaml").write_text('pages: {"1": {access_token: "${TOKEN_OF_PAGE}"}}')
    environ = {"STATE_DIR": "state", "PAGES": "pages.yaml"}
    run = CliRunner(
        env={
            **{f"LEADSTREAM_{name}": str(tmp_path / path) for name, path in environ.items()},
            **dict.fromkeys(("LEADSTREAM_APP_SECRET", "LEADSTREAM_VERIFY_TOKEN", "TOKEN_OF_PAGE"), "s3cret"),
            "LEADSTREAM_BROKER": "",
        }
    )
    try:
        assert run.invoke(main, ["kafka", "start", "--port", str(free_ports())]).exit_code == 0
        running = KafkaNode(tmp_path / "state").status()
        assert running is not None
        given = Path(f"/proc/{running.pid}/environ").read_bytes()
    finally:
        run.invoke(main, ["kafka", "stop"])

    home = tmp_path / "state/kafka"
    written = [file for file in home.rglob("*") if (home / "data") in file.parents or file == home / "kafka.log"]
    assert home.stat().st_mode & 0o077 == 0
    assert len(written) > 3
    assert [file for file in written if file.stat().st_mode & 0o077] == []
    assert b"PATH=" in given
    assert b"s3cret" not in given


def test_start_with_a_broker_set_only_asks_whether_it_answers(kafka_broker: str, tmp_path: Path) -> None:
    run = CliRunner(env={"LEADSTREAM_BROKER": kafka_broker, "LEADSTREAM_STATE_DIR": str(tmp_path)})

    result = run.invoke(main, ["kafka", "start"])

    assert result.exit_code == 0
    assert f"nothing is started here; {kafka_broker} answers" in result.output
    assert list(tmp_path.iterdir()) == []


@pytest.mark.anyio
async def test_nobody_answers_at_a_free_port() -> None:
    assert not await answers(Cluster(f"127.0.0.1:{free_ports()}"))


async def start(node: KafkaNode) -> str:
    return await anyio.to_thread.run_sync(node.start, lambda _: None)


def kill(node: KafkaNode) -> None:
    running = node.status()
    assert running is not None
    os.kill(running.pid, signal.SIGKILL)
    os.waitpid(running.pid, 0)


async def write(broker: str, value: bytes) -> None:
    async with AIOKafkaProducer(bootstrap_servers=broker, acks="all") as producer:
        await producer.send_and_wait("kept", value)


async def read(broker: str, count: int) -> list[bytes]:
    async with AIOKafkaConsumer("kept", bootstrap_servers=broker, auto_offset_reset="earliest") as consumer:
        return [(await consumer.getone()).value for _ in range(count)]
