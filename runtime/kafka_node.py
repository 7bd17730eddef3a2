"""A local Apache Kafka node (KRaft, one process): started when asked, kept between runs, stopped without loss."""

import asyncio
import base64
import fcntl
import json
import os
import signal
import socket
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from string import Template

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from runtime.kafka_jars import KafkaNodeError, find_java, kafka_jars, kafka_version

DEFAULT_PORT = 9092
_LOOPBACK = "127.0.0.1"
_READY_WITHIN = 60.0
_STOPPED_WITHIN = 30.0
_POLL = 0.05
# C1 and the serial collector are quickest to ready; 320 MB carried 8 MB records to three readers at once.
_JVM_OPTIONS = (
    "-Xms64m",
    "-Xmx320m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-Xlog:disable",
    "-Xlog:all=error",
)


@dataclass(frozen=True, slots=True)
class Status:
    """A running node: its process and where it listens."""

    pid: int
    port: int

    @property
    def broker(self) -> str:
        return f"{_LOOPBACK}:{self.port}"


@dataclass(frozen=True, slots=True)
class KafkaNode:
    """The node whose data lie in `<state_dir>/kafka`; it outlives the process that starts it."""

    state_dir: Path
    port: int = DEFAULT_PORT

    @property
    def log(self) -> Path:
        """What the node said in its last run; the run before is beside it as `kafka.log.1`."""
        return self._home / "kafka.log"

    def start(self, progress: Callable[[str], None], environ: Mapping[str, str] = os.environ) -> str:
        """Start the node unless it runs, wait until it answers, and return its `host:port`.

        A running node keeps the port it has. Blocks, so it is not for an event loop. Raises `KafkaNodeError`.
        """
        self._home.mkdir(parents=True, exist_ok=True)
        with self._alone():
            running = self.status()
            if running is None:
                running = self._launch(progress, environ)
            else:
                progress(f"Kafka runs already at {running.broker}")
        return running.broker

    def status(self) -> Status | None:
        """The running node, or None. A process that is not ours does not count, whatever the pid file says."""
        try:
            remembered = json.loads(self._record.read_text())
        except FileNotFoundError:
            return None
        status = Status(remembered["pid"], remembered["port"])
        return status if self._is_ours(status.pid) else None

    def stop(self) -> bool:
        """Ask the node to end and wait until it has. False if it did not run; raises `KafkaNodeError` if it stays."""
        running = self.status()
        if running is None:
            return False
        os.kill(running.pid, signal.SIGTERM)
        deadline = time.monotonic() + _STOPPED_WITHIN
        while self._is_ours(running.pid):
            if time.monotonic() > deadline:
                raise KafkaNodeError(f"Kafka (process {running.pid}) does not stop; its log is {self.log}")
            time.sleep(_POLL)
        self._record.unlink(missing_ok=True)
        return True

    def _launch(self, progress: Callable[[str], None], environ: Mapping[str, str]) -> Status:
        java, java_version = find_java(environ)
        _require_free(self.port)
        jars = kafka_jars(environ, progress)
        progress(f"Starting Apache Kafka {kafka_version()}")
        self._configure()
        jvm = [java, *_JVM_OPTIONS, f"-Dlog4j2.configurationFile={self._home / 'log4j2.xml'}", "-cp", f"{jars}/*"]
        classes = jars / f"classes-{java_version}.jsa"
        self._format_once(jvm, classes)
        pid = self._spawn([*jvm[:1], f"-XX:SharedArchiveFile={classes}", *jvm[1:], "kafka.Kafka", str(self._config)])
        status = Status(pid, self.port)
        self._record.write_text(json.dumps({"pid": pid, "port": self.port}))
        self._wait_until_ready(status)
        return status

    def _configure(self) -> None:
        template = Template((files("runtime") / "kafka_node.properties").read_text())
        # Java reads properties as Latin-1 with escapes, which are the escapes of JSON.
        data = json.dumps(str(self._home / "data"))[1:-1]
        self._config.write_text(template.substitute(port=self.port, controller_port=_free_port(), data=data))
        (self._home / "log4j2.xml").write_text((files("runtime") / "kafka_node.log4j2.xml").read_text())

    def _format_once(self, jvm: list[str], classes: Path) -> None:
        """Format the data folder. On the way, archive the loaded classes: it saves each later start about a second."""
        if (self._home / "data" / "meta.properties").exists():
            return
        unfinished = classes.with_suffix(f".{os.getpid()}")
        archive = [] if classes.exists() else [f"-XX:ArchiveClassesAtExit={unfinished}"]
        cluster_id = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        tool = ["kafka.tools.StorageTool", "format", "-t", cluster_id, "-c", str(self._config)]
        done = subprocess.run([*jvm[:1], *archive, *jvm[1:], *tool], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise KafkaNodeError(
                f"Kafka could not format {self._home / 'data'}: {_last_lines(done.stdout + done.stderr)}"
            )
        if archive and unfinished.exists():
            unfinished.rename(classes)

    def _spawn(self, command: list[str]) -> int:
        """Start the node in a session of its own, so that Ctrl-C in the terminal is not for it."""
        if self.log.exists():
            self.log.replace(self.log.with_suffix(".log.1"))
        write = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        return os.posix_spawn(
            command[0],
            command,
            os.environ,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, str(self.log), write, 0o644),
                (os.POSIX_SPAWN_DUP2, 1, 2),
            ],
            setsid=True,
        )

    def _wait_until_ready(self, status: Status) -> None:
        deadline = time.monotonic() + _READY_WITHIN
        while not (_listens(self.port) and asyncio.run(answers(status.broker))):
            if _reaped(status.pid):
                raise KafkaNodeError(f"Kafka ended while it started: {_last_lines(self.log.read_text())} ({self.log})")
            if time.monotonic() > deadline:
                raise KafkaNodeError(f"Kafka does not answer after {_READY_WITHIN:.0f} s; its log is {self.log}")
            time.sleep(_POLL)

    def _is_ours(self, pid: int) -> bool:
        return not _reaped(pid) and _command_line(pid).endswith(f" {self._config}")

    @contextmanager
    def _alone(self) -> Iterator[None]:
        with (self._home / "start.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    @property
    def _home(self) -> Path:
        return self.state_dir.resolve() / "kafka"

    @property
    def _config(self) -> Path:
        return self._home / "server.properties"

    @property
    def _record(self) -> Path:
        return self._home / "node.json"


def running_broker(state_dir: Path) -> str | None:
    """Where the node of this state directory listens, or None when it does not run."""
    running = KafkaNode(state_dir).status()
    return running.broker if running else None


async def answers(broker: str) -> bool:
    """Whether a Kafka serves metadata there and has a node that takes records."""
    admin = AIOKafkaAdminClient(bootstrap_servers=broker, request_timeout_ms=2_000)
    try:
        await admin.start()
        return bool((await admin.describe_cluster())["brokers"])
    except KafkaError:
        return False
    finally:
        await admin.close()


def _require_free(port: int) -> None:
    if _listens(port):
        raise KafkaNodeError(
            f"port {port} is taken by another program: choose another with --port, "
            f"or set LEADSTREAM_BROKER={_LOOPBACK}:{port} if that is the Kafka to use"
        )


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((_LOOPBACK, port)) == 0


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((_LOOPBACK, 0))
        return int(probe.getsockname()[1])


def _command_line(pid: int) -> str:
    """The arguments of a process; empty when there is none."""
    if Path("/proc/self").exists():
        with suppress(FileNotFoundError, ProcessLookupError):
            return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ").strip()
        return ""
    return subprocess.run(["ps", "-ww", "-o", "args=", "-p", str(pid)], capture_output=True, text=True).stdout.strip()


def _reaped(pid: int) -> bool:
    """Whether it is a child of ours that has ended; it leaves the process table with this."""
    with suppress(ChildProcessError):
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    return False


def _last_lines(text: str) -> str:
    return " | ".join(text.strip().splitlines()[-3:]) or "it said nothing"
