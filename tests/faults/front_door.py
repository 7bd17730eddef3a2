"""Meta's side of the fault tests of ingest: posts until 200, keeps a journal, and compares it with the raw topic."""

import asyncio
import json
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from messenger.signature import sign
from messenger.webhook import parse_delivery
from runtime import kafka
from runtime.clock import from_millis
from runtime.cluster import Cluster
from runtime.ports import free_ports
from schemas.topics import WEBHOOKS

SECRET = "an app secret"
PAGE = "542998526103632"
PERSONS = 960
_ANSWER_WITHIN = 10.0
_RETRY_AFTER = 0.2
# Only there so that a failure ends.
_PATIENCE = 300.0


def person_of(number: int) -> str:
    return str(5_000_000_000_000_000 + number % PERSONS)


def a_body(number: int) -> bytes:
    item = {
        "sender": {"id": person_of(number)},
        "recipient": {"id": PAGE},
        "timestamp": 1_770_000_000_000 + number,
        "message": {"mid": f"m_{number}", "text": "an answer " * 20},
    }
    return json.dumps({"object": "page", "entry": [{"id": PAGE, "time": number, "messaging": [item]}]}).encode()


@dataclass(slots=True)
class Journal:
    """What the client was told: the receipt of each webhook, and why it had to post again."""

    receipts: dict[int, str] = field(default_factory=dict)
    again: Counter[str] = field(default_factory=Counter)


@dataclass(slots=True)
class Meta:
    """Posts webhooks over several connections; those of one person over one, each when the last is answered."""

    port: int
    journal: Journal = field(default_factory=Journal)

    async def post_all(self, numbers: Iterable[int], *, connections: int, per_second: float = 1e9) -> None:
        began, queues = time.monotonic(), [asyncio.Queue[int | None](500) for _ in range(connections)]
        async with asyncio.TaskGroup() as tasks:
            for queue in queues:
                tasks.create_task(self._connection(queue))
            for count, number in enumerate(numbers):
                await asyncio.sleep(max(0.0, began + count / per_second - time.monotonic()))
                await queues[number % PERSONS % connections].put(number)
            for queue in queues:
                await queue.put(None)

    async def _connection(self, queue: "asyncio.Queue[int | None]") -> None:
        streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        while (number := await queue.get()) is not None:
            while number not in self.journal.receipts:
                try:
                    streams = streams or await asyncio.open_connection("127.0.0.1", self.port)
                    await self._post(number, *streams)
                except (OSError, EOFError, TimeoutError) as error:
                    self.journal.again[type(error).__name__] += 1
                    if streams:
                        streams[1].close()
                    streams = None
                    await asyncio.sleep(_RETRY_AFTER)
        if streams:
            streams[1].close()

    async def _post(self, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        body = a_body(number)
        writer.write(
            b"POST /webhooks/messenger HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\nX-Hub-Signature-256: %s\r\n\r\n%s"
            % (len(body), sign(body, SECRET).encode(), body)
        )
        async with asyncio.timeout(_ANSWER_WITHIN):
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            headers = dict(line.split(": ", 1) for line in head.splitlines()[1:] if line)
            await reader.readexactly(int(headers["content-length"]))
        if head.startswith("http/1.1 200"):
            self.journal.receipts[number] = headers["leadstream-receipt"]
        else:
            self.journal.again[head[9:12]] += 1
            await asyncio.sleep(_RETRY_AFTER)


@dataclass(slots=True)
class IngestProcess:
    """`leadstream ingest` as a process of its own, which can be killed and started again on the same spool."""

    home: Path
    broker: str
    environ: Mapping[str, str] = field(default_factory=dict)
    port: int = field(default_factory=free_ports)
    admin_port: int = field(default_factory=free_ports)
    peak_megabytes: int = 0
    _process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        environ = {
            **os.environ,
            "LEADSTREAM_BROKER": self.broker,
            "LEADSTREAM_APP_ID": "1",
            "LEADSTREAM_APP_SECRET": SECRET,
            "LEADSTREAM_VERIFY_TOKEN": "a token",
            "LEADSTREAM_STATE_DIR": str(self.home),
            **self.environ,
        }
        with (self.home / "ingest.log").open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "cli", "ingest", "--port", str(self.port), "--admin-port", str(self.admin_port),
                env=environ, stderr=log,
            )  # fmt: skip
        deadline = time.monotonic() + _PATIENCE
        while "serving" not in await self.parts():
            assert self._process.returncode is None, "ingest has ended"
            assert time.monotonic() < deadline, "ingest is not ready"
            await asyncio.sleep(0.1)

    async def kill(self) -> None:
        await self._end(signal.SIGKILL)

    async def kill_if_alive(self) -> None:
        if self._process is not None and self._process.returncode is None:
            await self.kill()

    async def stop(self) -> int:
        return await self._end(signal.SIGTERM)

    async def _end(self, signal_number: int) -> int:
        assert self._process is not None
        self.peak_megabytes = max(self.peak_megabytes, _peak_megabytes(self._process.pid))
        self._process.send_signal(signal_number)
        return await asyncio.wait_for(self._process.wait(), _PATIENCE)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    async def parts(self) -> dict[str, dict[str, object]]:
        """The parts of readiness, or nothing while it does not answer."""
        with suppress(OSError):
            parts: dict[str, dict[str, object]] = json.loads(await self._admin("/readyz"))["parts"]
            return parts
        return {}

    async def metrics(self) -> str:
        return (await self._admin("/metrics")).decode()

    async def _admin(self, path: str) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.admin_port)
        writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        answer = await reader.read()
        writer.close()
        return answer.partition(b"\r\n\r\n")[2]

    async def drained(self) -> None:
        deadline = time.monotonic() + _PATIENCE
        while (await self.parts()).get("spool", {}).get("seen") != "empty":
            assert time.monotonic() < deadline, f"not drained: {await self.parts()}"
            await asyncio.sleep(0.2)


def _peak_megabytes(pid: int) -> int:
    """The most memory that a running process has had."""
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) // 1024 for line in status.splitlines() if line.startswith("VmHWM"))


@dataclass(frozen=True, slots=True)
class Comparison:
    """The raw topic against the journal; `misplaced` are those that stand before an earlier one of their person."""

    missing: int
    foreign: int
    events: int
    misplaced: int
    copies: int


async def compare(broker: str, journal: Journal) -> Comparison:
    """By bytes: which webhooks that were answered 200 lack, what else is there, and how many different events."""
    expected = {a_body(number): number for number in journal.receipts}
    found, foreign, events, misplaced, copies = set[int](), 0, set[str](), 0, 0
    newest: dict[str, int] = {}
    for value in await _values(broker):
        number = expected.get(value)
        if number is None:
            foreign += 1
            continue
        parsed = parse_delivery(value, received_at=from_millis(1), topic=WEBHOOKS.name, partition=0, offset=0)
        events.update(event.event_id for event in parsed.events)
        if number in found:
            copies += 1
            continue
        found.add(number)
        misplaced += number < newest.get(person_of(number), -1)
        newest[person_of(number)] = number
    return Comparison(len(expected) - len(found), foreign, len(events), misplaced, copies)


async def _values(broker: str) -> list[bytes]:
    consumer = kafka.consumer(Cluster(broker), WEBHOOKS.name, group=None, client_id="test-reader")
    try:
        await consumer.start()
        ends = await consumer.end_offsets(consumer.assignment())
        values: list[bytes] = []
        while [partition for partition, end in ends.items() if await consumer.position(partition) < end]:
            for records in (await consumer.getmany(timeout_ms=500)).values():
                values += (record.value for record in records)
        return values
    finally:
        await consumer.stop()
