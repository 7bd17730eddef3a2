"""A local Apache Kafka node (KRaft, one process): started on request, kept between runs, stopped without loss."""

import asyncio
import fcntl
import json
import os
import re
import secrets
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from importlib.resources import files
from pathlib import Path
from string import Template

from aiokafka.errors import KafkaError

from runtime.child_process import ending_with_us
from runtime.cluster import Cluster, admin_client
from runtime.disk_sync import sync
from runtime.local_kafka.jars import KafkaNodeError, find_java, kafka_jars, kafka_version
from runtime.log_file import set_aside
from runtime.ports import free_ports
from runtime.private_directory import make_private
from runtime.setting_values import DEFAULT_KAFKA_PORT
from runtime.settings import variable

_LOOPBACK = "127.0.0.1"
_READY_WITHIN = 60.0
_ENDS_WITHIN = 30.0
_POLL = 0.05
_UMASK = 0o077
# C1 and the serial collector are quickest to ready; 320 MB carried 8 MB records to three readers at once.
_JVM_OPTIONS = (
    "-Xms64m",
    "-Xmx320m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    # A node that ends is started again; one that lost a thread to a lack of memory would hang.
    "-XX:+ExitOnOutOfMemoryError",
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
    """The node with its data in `<state_dir>/kafka`. It outlives the process that starts it, unless `ends_with_us`.

    With `ends_with_us` it ends with that process on Linux, which must start it from the main thread.
    """

    state_dir: Path
    port: int = DEFAULT_KAFKA_PORT
    ends_with_us: bool = False

    @property
    def log(self) -> Path:
        """The output of the node's last run, cut by size; older output is beside it as `kafka.log.1` and so on."""
        return self._home / "kafka.log"

    def start(self, progress: Callable[[str], None], environ: Mapping[str, str] = os.environ) -> str:
        """Start the node unless it runs, wait until it answers, and return its `host:port`.

        A running node keeps its port. Blocks: do not call it in an event loop. Raises `KafkaNodeError`.
        """
        # The records hold people's texts, which no other user of this machine may read.
        make_private(self._home)
        with self._alone():
            running = self.status()
            if running is None:
                running = self._launch(progress, environ)
                self._wait_until_ready(running)
            else:
                progress(f"Kafka runs already at {running.broker}")
        return running.broker

    def launch(self, progress: Callable[[str], None], environ: Mapping[str, str] = os.environ) -> None:
        """Like `start`, without waiting until the node answers. Raises `OSError` too, such as for a full disk."""
        with self._alone():
            if self.status() is None:
                self._launch(progress, environ)

    def status(self) -> Status | None:
        """The running node, or None. A process of the recorded pid that is not a node of ours does not count."""
        try:
            status = Status(**json.loads(self._record.read_text()))
        except (FileNotFoundError, ValueError, TypeError):
            return None
        return status if self._is_ours(status.pid) else None

    def stop(self, hurried: Callable[[], bool] = lambda: False) -> bool:
        """End the node and wait until it has ended; False if it did not run.

        A node that does not end within 30 seconds, or until `hurried` is true, is killed: its acknowledged records are
        written.
        """
        running = self.status()
        if running is None:
            return False
        if not (self._end(running.pid, signal.SIGTERM, hurried) or self._end(running.pid, signal.SIGKILL)):
            raise KafkaNodeError(f"Kafka (process {running.pid}) does not end; its log is {self.log}")
        self._record.unlink(missing_ok=True)
        return True

    def _end(self, pid: int, signal_number: signal.Signals, hurried: Callable[[], bool] = lambda: False) -> bool:
        with suppress(ProcessLookupError):
            os.kill(pid, signal_number)
        deadline = time.monotonic() + _ENDS_WITHIN
        while self._is_ours(pid):
            if hurried() or time.monotonic() > deadline:
                return False
            time.sleep(_POLL)
        return True

    def _launch(self, progress: Callable[[str], None], environ: Mapping[str, str]) -> Status:
        java, java_version = find_java(environ)
        _require_free(self.port)
        jars = kafka_jars(environ, progress)
        progress(f"Starting Apache Kafka {kafka_version()}")
        self._configure()
        classes = jars / f"loaded-{java_version}.jsa"
        program = [f"-Dlog4j2.configurationFile={self._home / 'log4j2.xml'}", "-cp", f"{jars}/*"]
        # Under the locale C, Java finds no path with an umlaut.
        environ = {**environ, "LC_ALL": "C.UTF-8"}
        self._format_once([java, *_JVM_OPTIONS, *program], classes, environ)
        pid = self._spawn([java, f"-XX:SharedArchiveFile={classes}", *_JVM_OPTIONS, *program], environ)
        status = Status(pid, self.port)
        try:
            self._remember(status)
        except OSError:
            # Without its record the node would not be found again.
            self._end(pid, signal.SIGKILL)
            raise
        return status

    def _configure(self) -> None:
        template = Template((files("runtime.local_kafka") / "node.properties").read_text())
        # Java reads properties as Latin-1 with escapes, which are the escapes of JSON.
        data = json.dumps(str(self._home / "data"))[1:-1]
        self._config.write_text(template.substitute(port=self.port, controller_port=free_ports(), data=data))
        (self._home / "log4j2.xml").write_text((files("runtime.local_kafka") / "node.log4j2.xml").read_text())

    def _remember(self, status: Status) -> None:
        unfinished = self._record.with_suffix(".new")
        unfinished.write_text(json.dumps(asdict(status)))
        unfinished.replace(self._record)

    def _format_once(self, command: list[str], classes: Path, environ: Mapping[str, str]) -> None:
        """Format the data folder, and archive the loaded classes, which saves each later start about a second."""
        if (self._home / "data" / "meta.properties").exists():
            return
        unfinished = classes.with_suffix(f".{os.getpid()}")
        archive = [f"-XX:SharedArchiveFile={classes}"]
        if not classes.exists() and os.access(classes.parent, os.W_OK):
            archive = [f"-XX:ArchiveClassesAtExit={unfinished}"]
        tool = ["kafka.tools.StorageTool", "format", "--cluster-id", _cluster_id(), "--config", str(self._config)]
        done = subprocess.run(
            [command[0], *archive, *command[1:], *tool],
            env=environ,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            umask=_UMASK,
        )
        if done.returncode != 0:
            unfinished.unlink(missing_ok=True)
            raise KafkaNodeError(f"Kafka cannot format {self._home / 'data'}: {_reason(done.stdout + done.stderr)}")
        # Kafka does not sync all of it, and a node without its first metadata never starts again.
        data = self._home / "data"
        for path in (*data.rglob("*"), data, data.parent):
            sync(path)
        if unfinished.exists():
            # The cache, unlike the node's data, is for every user who may reach it.
            unfinished.chmod(0o644)
            unfinished.rename(classes)

    def _spawn(self, command: list[str], environ: Mapping[str, str]) -> int:
        """Start the node in its own session, so that Ctrl-C in the terminal does not reach it."""
        set_aside(self.log)
        log_options = ["-Dleadstream.kafka.appender=file", f"-Dleadstream.kafka.log={self.log}"]
        command = [command[0], *log_options, *command[1:], "kafka.Kafka", str(self._config)]
        if self.ends_with_us:
            command = ending_with_us(command)
        before = os.umask(_UMASK)
        try:
            return os.posix_spawn(
                command[0],
                command,
                environ,
                file_actions=[
                    (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                    (os.POSIX_SPAWN_OPEN, 1, str(self.log), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600),
                    (os.POSIX_SPAWN_DUP2, 1, 2),
                ],
                setsid=True,
            )
        finally:
            os.umask(before)

    def _wait_until_ready(self, status: Status) -> None:
        deadline = time.monotonic() + _READY_WITHIN
        while not (_listens(self.port) and asyncio.run(answers(Cluster(status.broker)))):
            if _reaped(status.pid):
                raise KafkaNodeError(
                    f"Kafka ended while it started: {_reason(self.log.read_text(errors='replace'))} (log: {self.log})"
                )
            if time.monotonic() > deadline:
                self.stop()
                raise KafkaNodeError(f"Kafka did not answer within {_READY_WITHIN:.0f} s (log: {self.log})")
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
    """Where the node of this state directory listens, or None if it does not run."""
    running = KafkaNode(state_dir).status()
    return running.broker if running else None


async def answers(broker: Cluster) -> bool:
    """Whether a Kafka answers there and has a node that accepts records."""
    try:
        async with admin_client(broker, request_timeout_ms=2_000) as admin:
            return bool((await admin.describe_cluster())["brokers"])
    except KafkaError:
        return False


def _require_free(port: int) -> None:
    if _listens(port):
        raise KafkaNodeError(
            f"port {port} is taken by another program: set {variable('kafka_port')} to a free one, "
            f"or {variable('broker')}={_LOOPBACK}:{port} if that is the Kafka to use"
        )


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((_LOOPBACK, port)) == 0


def _command_line(pid: int) -> str:
    """The arguments of a process; empty when there is none."""
    if Path("/proc/self").exists():
        with suppress(FileNotFoundError, ProcessLookupError):
            return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ").strip()
        return ""
    return subprocess.run(["ps", "-ww", "-o", "args=", "-p", str(pid)], capture_output=True, text=True).stdout.strip()


def _reaped(pid: int) -> bool:
    """Whether the process is a child of ours that has ended; the call removes it from the process table."""
    with suppress(ChildProcessError):
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    return False


def _reason(log: str) -> str:
    """The last exception of a process's log, else the log's last lines."""
    exceptions = re.findall(r"^(?:Caused by: )?[\w.$]+(?:Exception|Error): .+", log, re.MULTILINE)
    return " | ".join(exceptions[-1:] or log.strip().splitlines()[-3:]) or "no output"


def _cluster_id() -> str:
    """16 random bytes as Kafka writes them; an id that began with a dash would be read as an option."""
    return "L" + secrets.token_urlsafe(16)[1:]
