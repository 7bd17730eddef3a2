"""What chaos hurts: each stage, Kafka behind a proxy, and PostgreSQL; and how each of them is brought back."""

import asyncio
import os
import signal
import subprocess
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from runtime.local_kafka.jars import KafkaNodeError
from runtime.local_kafka.node import KafkaNode
from tests import run_end
from tests.faults.live import Live
from tests.integration.warehouses import PostgresServer

_BUFFER = 65536


class Target(Protocol):
    """A part that can be hurt; `gentle` is the signal that asks it to end, `user` who runs it if not we do."""

    name: str
    gentle: signal.Signals

    @property
    def user(self) -> str | None: ...

    def pids(self) -> list[int]:
        """Its processes, the main one first; empty while it does not run."""
        ...

    async def revive(self) -> bool:
        """Start it if it has ended, as a supervisor does; whether it had."""
        ...


@dataclass(slots=True)
class StageTarget:
    """One stage of a live deployment."""

    live: Live
    name: str
    gentle: signal.Signals = signal.SIGTERM
    user: str | None = None

    def pids(self) -> list[int]:
        return self.live.pids(self.name)

    async def revive(self) -> bool:
        return self.live.respawn(self.name)


@dataclass(frozen=True, slots=True)
class ProxiedNode(KafkaNode):
    """A local node whose clients come through a proxy."""

    proxy_port: int = 0

    def _configure(self) -> None:
        KafkaNode._configure(self)
        direct, proxied = (
            f"advertised.listeners=PLAINTEXT://127.0.0.1:{port}" for port in (self.port, self.proxy_port)
        )
        self._config.write_text(self._config.read_text().replace(direct, proxied))


@dataclass(slots=True)
class KafkaTarget:
    node: KafkaNode
    name: str = "kafka"
    gentle: signal.Signals = signal.SIGTERM
    user: str | None = None

    def pids(self) -> list[int]:
        status = self.node.status()
        return [status.pid] if status else []

    async def revive(self) -> bool:
        if self.node.status() is not None:
            return False
        # A fault may end it again while it starts; the supervisor's next round starts it anew.
        with suppress(KafkaNodeError):
            await asyncio.to_thread(self.node.start, lambda _: None)
        return True


@dataclass(slots=True)
class PostgresTarget:
    """The server; SIGINT is its fast shutdown, which does not wait for clients."""

    server: PostgresServer
    name: str = "postgresql"
    gentle: signal.Signals = signal.SIGINT

    @property
    def user(self) -> str | None:
        return self.server.user

    def pids(self) -> list[int]:
        try:
            postmaster = int(Path(self.server.data, "postmaster.pid").read_text().split()[0])
        except (FileNotFoundError, IndexError):
            return []
        return [postmaster, *children_of(postmaster)] if _runs(postmaster) else []

    async def revive(self) -> bool:
        if self.pids():
            return False
        # It refuses to start while a backend of its last life is still there.
        with suppress(subprocess.CalledProcessError):
            await asyncio.to_thread(self.server.start)
        return True


@dataclass(slots=True)
class Proxy:
    """Carries bytes between its port and another; while it is cut, connections are reset and refused."""

    port: int
    target_port: int
    _server: asyncio.Server | None = None
    _open: set[asyncio.StreamWriter] = field(default_factory=set)
    _serving: set[asyncio.Task[None]] = field(default_factory=set)

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)

    async def cut(self) -> None:
        if self._server is not None:
            self._server.close()
        for writer in list(self._open):
            writer.transport.abort()
        if self._serving:
            await asyncio.wait(self._serving)
        self._server = None

    def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._join(reader, writer))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.target_port)
        except OSError:
            writer.transport.abort()
            return
        ends = {writer, far_writer}
        self._open |= ends
        try:
            await asyncio.gather(_carry(reader, far_writer), _carry(far_reader, writer))
        finally:
            self._open -= ends
            for end in ends:
                end.transport.abort()


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while chunk := await reader.read(_BUFFER):
            writer.write(chunk)
            await writer.drain()
    writer.transport.abort()


def send(pids: list[int], signal_number: signal.Signals) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal_number)


def limit_files(target: Target, pids: list[int], limit: Literal["0", "unlimited"]) -> None:
    """Bound how far these processes can write into any file; 0 is a full disk to them."""
    for pid in pids:
        # Only a process of the same user may do it, where root lacks CAP_SYS_RESOURCE.
        command = ["prlimit", f"--fsize={limit}:unlimited", "--pid", str(pid)]
        done = subprocess.run(command, user=target.user, cwd="/", capture_output=True, text=True, check=False)
        assert done.returncode == 0 or not _runs(pid), f"{target.name}: {done.stderr}"


def children_of(parent: int) -> list[int]:
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(FileNotFoundError, ProcessLookupError):
            if int(stat.read_text().rpartition(")")[2].split()[1]) == parent:
                found.append(int(stat.parent.name))
    return found


def commands_of(pids: list[int]) -> Counter[str]:
    """The command lines of those that run; what has ended and is not waited for yet has none."""
    return +Counter(command for pid in pids if (command := run_end.command_line(pid)))


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@dataclass(frozen=True, slots=True)
class Footprint:
    """What a process holds."""

    megabytes: int
    files: int


def footprint(pid: int) -> Footprint | None:
    """None once the process has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
        kilobytes = next((int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")), 0)
        return Footprint(kilobytes // 1024, len(list(Path(f"/proc/{pid}/fd").iterdir())))
    except (FileNotFoundError, ProcessLookupError):
        return None
