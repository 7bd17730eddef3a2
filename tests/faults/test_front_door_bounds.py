"""Strangers, full disks and programs that are not Kafka cost no signed webhook, on a real process and a real Kafka."""

import asyncio
import json
import re
import resource
import struct
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from cli.main import main
from messenger.signature import sign
from runtime.local_kafka.node import KafkaNode
from tests.faults.front_door import SECRET, Comparison, IngestProcess, Meta, a_body, compare

pytestmark = [pytest.mark.faults, pytest.mark.anyio]

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]

# Only there so that a failure ends.
PATIENCE = 300.0
# What a process may open where nobody has raised it.
OPEN_FILES = 1024
LARGE = 4 * 1024 * 1024
# Of a process that has taken 50,000 webhooks it is 300; the bodies in flight have 64 of them.
PEAK_MEGABYTES = 250


@pytest.fixture(scope="module", autouse=True)
def many_files() -> Iterator[None]:
    """For our own side of the connections."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 10_000), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture
async def ingest(node: KafkaNode, tmp_path: Path) -> AsyncIterator[IngestProcess]:
    ingest = IngestProcess(tmp_path, f"127.0.0.1:{node.port}")
    await ingest.start()
    resource.prlimit(ingest.pid, resource.RLIMIT_NOFILE, (OPEN_FILES, OPEN_FILES))
    yield ingest
    await ingest.kill_if_alive()


async def test_nine_hundred_idle_connections_keep_no_signed_webhook_out(ingest: IngestProcess) -> None:
    async with open_connections(ingest.port, 900):
        statuses = [await status_of(ingest.port, a_request(number)) for number in range(8)]

    assert statuses == [200] * 8


async def test_a_flood_of_connections_keeps_no_signed_webhook_out(ingest: IngestProcess) -> None:
    """Two thousand, each of which has begun a request."""
    async with open_connections(ingest.port, 2000, said=b"POST /webhooks/messenger HTTP/1.1\r\nHost: x\r\nContent-"):
        await asyncio.sleep(1.5)
        statuses = [await status_of(ingest.port, a_request(number)) for number in range(8)]

    assert statuses == [200] * 8
    assert await ingest.stop() == 0


async def test_silent_connections_to_the_admin_port_do_not_use_up_the_files(ingest: IngestProcess) -> None:
    async with open_connections(ingest.admin_port, 1100):
        assert (await ingest.parts())["serving"]["ready"]
        await Meta(ingest.port).post_all(range(1000), connections=32)
        assert (await ingest.parts())["spool"]["seen"] == "empty"

    assert await ingest.stop() == 0


async def test_bodies_of_strangers_have_one_budget(ingest: IngestProcess) -> None:
    """A hundred connections, each with all of a large body but its last byte."""
    head = b"POST /webhooks/messenger HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % LARGE
    async with open_connections(ingest.port, 100, said=head + bytes(LARGE - 1)):
        await asyncio.sleep(1.5)
        statuses = [await status_of(ingest.port, a_request(number)) for number in range(8)]

    assert statuses == [200] * 8
    assert 'webhooks_received_total{result="bodies_in_flight"}' in await ingest.metrics()
    assert await ingest.stop() == 0
    assert ingest.peak_megabytes < PEAK_MEGABYTES


async def test_a_signed_large_body_is_taken_once_those_of_strangers_are_gone(ingest: IngestProcess) -> None:
    head = b"POST /webhooks/messenger HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % LARGE
    body = b'{"object": "page", "entry": [], "note": "%s"}' % (b"a" * 3_000_000)
    signed = signed_request(body)
    async with open_connections(ingest.port, 20, said=head + bytes(LARGE - 1)):
        await asyncio.sleep(1)
        meanwhile = await status_of(ingest.port, signed)
        deadline = time.monotonic() + PATIENCE
        while (afterwards := await status_of(ingest.port, signed)) != 200:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.5)

    assert (meanwhile, afterwards) == (503, 200)


async def test_unsigned_requests_do_not_fill_the_log(ingest: IngestProcess) -> None:
    count = 20_000
    unsigned = b"POST /webhooks/messenger HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}"
    reader, writer = await asyncio.open_connection("127.0.0.1", ingest.port)
    for _ in range(count // 100):
        writer.write(unsigned * 100)
        for _ in range(100):
            await reader.readuntil(b"bad_signature")
    writer.close()
    for _ in range(500):
        assert await status_of(ingest.port, b"no HTTP at all\r\n\r\n") == 400
    metrics = await ingest.metrics()
    assert await ingest.stop() == 0

    assert f'webhooks_received_total{{result="bad_signature"}} {count}.0' in metrics
    assert 'connections_refused_total{reason="malformed"} 500.0' in metrics
    log = (ingest.home / "ingest.log").read_text().splitlines()
    assert len(log) < 50
    left_out = [line for line in map(json.loads, log) if line["event"] == "log.left_out"]
    assert sum(line["count"] for line in left_out if line["of"] == "delivery.refused") > count - 20


async def test_receipts_go_on_once_a_full_disk_takes_them_and_verify_tells_what_was_lost(
    node: KafkaNode, ingest: IngestProcess
) -> None:
    log, meta = ingest.home / "ingest.log", Meta(ingest.port)
    await meta.post_all(range(500), connections=8)

    # The file may not grow, as on a full disk: what is written ends in the middle of a line, then fails.
    no_limit = resource.prlimit(ingest.pid, resource.RLIMIT_FSIZE, (log.stat().st_size + 1000, resource.RLIM_INFINITY))
    await meta.post_all(range(500, 1000), connections=8)
    meanwhile = await receipts_once(ingest, ready=False)
    resource.prlimit(ingest.pid, resource.RLIMIT_FSIZE, no_limit)
    afterwards = await receipts_once(ingest, ready=True)
    await meta.post_all(range(1000, 1500), connections=8)
    assert await ingest.stop() == 0
    whole = await asyncio.to_thread(verify, ingest, log)

    assert meanwhile == {"ready": False, "seen": "the log cannot be written: File too large"}
    assert afterwards == {"ready": True, "seen": ""}
    assert (whole.exit_code, whole.output) == (0, "1500 in Kafka byte for byte, 0 missing, 0 different\n")

    torn = ingest.home / "torn.log"
    lines = log.read_text().splitlines(keepends=True)
    torn.write_text("".join(line for line in lines if '"receipt_number": 7' not in line))
    lost = await asyncio.to_thread(verify, ingest, torn)
    assert lost.exit_code == 1
    assert "not in the logs: receipts 70 to 79 of process" in lost.output
    assert re.search(
        r"111 receipts are not in the logs.*; 111 deliveries of the same processes are in Kafka", lost.output
    )


async def receipts_once(ingest: IngestProcess, *, ready: bool) -> dict[str, object]:
    """This part of readiness, once it is ready or not."""
    deadline = time.monotonic() + PATIENCE
    while (part := (await ingest.parts())["receipts"])["ready"] is not ready:
        assert time.monotonic() < deadline, part
        await asyncio.sleep(0.1)
    return part


def verify(ingest: IngestProcess, log: Path) -> Result:
    return CliRunner().invoke(main, ["verify", str(log)], env={"LEADSTREAM_BROKER": ingest.broker})


async def test_another_program_on_the_brokers_port_does_not_end_ingest(node: KafkaNode, ingest: IngestProcess) -> None:
    meta = Meta(ingest.port)
    await meta.post_all(range(100), connections=4)
    await asyncio.to_thread(node.stop)
    async with not_kafka(node.port) as answered:
        await meta.post_all(range(100, 200), connections=4)
        deadline = time.monotonic() + PATIENCE
        while len(answered) < 5 or not (await ingest.parts())["kafka"]["seen"]:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.1)
        meanwhile = await ingest.parts()
        await ingest.kill()
        await ingest.start()
        await meta.post_all(range(200, 300), connections=4)
    await asyncio.to_thread(node.start, lambda _: None)
    await ingest.drained()
    comparison = await compare(ingest.broker, meta.journal)

    assert meanwhile["serving"]["ready"]
    assert not meanwhile["kafka"]["ready"]
    assert meta.journal.again == {}
    assert (comparison.missing, comparison.foreign, comparison.events, comparison.misplaced) == (0, 0, 300, 0)
    assert isinstance(comparison, Comparison)
    assert await ingest.stop() == 0


@asynccontextmanager
async def not_kafka(port: int) -> AsyncIterator[list[int]]:
    """Answers in Kafka's frames, with the right correlation ids, that no version of anything is served."""
    answered: list[int] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, EOFError):
            while True:
                (size,) = struct.unpack(">i", await reader.readexactly(4))
                request = await reader.readexactly(size)
                answered.append(size)
                frame = request[4:8] + struct.pack(">hihhh", 0, 1, 3, 9, 1)
                writer.write(struct.pack(">i", len(frame)) + frame)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", port, reuse_address=True)
    try:
        yield answered
    finally:
        server.close()


def a_request(number: int) -> bytes:
    return signed_request(a_body(number))


def signed_request(body: bytes) -> bytes:
    head = b"POST /webhooks/messenger HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n" % len(body)
    return head + b"X-Hub-Signature-256: %s\r\n\r\n" % sign(body, SECRET).encode() + body


async def status_of(port: int, request: bytes) -> int:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    async with asyncio.timeout(PATIENCE):
        with suppress(ConnectionError):
            writer.write(request)
            await writer.drain()
        answer = await reader.readuntil(b"\r\n\r\n")
    writer.close()
    return int(answer[9:12])


@asynccontextmanager
async def open_connections(port: int, count: int, *, said: bytes = b"") -> AsyncIterator[None]:
    opened: list[Streams] = []
    try:
        for _ in range(count):
            streams = await asyncio.open_connection("127.0.0.1", port)
            streams[1].write(said)
            opened.append(streams)
        yield
    finally:
        for _, writer in opened:
            writer.close()
