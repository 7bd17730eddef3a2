"""The processes of one machine: started in data-path order, watched, stopped in reverse."""

import os
import signal
import subprocess
import sys
import time
import urllib.parse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

import httpx

from operations.local.interrupts import Interrupts
from operations.local.supervision import Supervised, Watch
from operations.reporting import OperationError
from runtime.child_process import ending_with_us
from runtime.log_file import set_aside
from runtime.private_directory import create_private, make_private
from runtime.settings import variable

_READY_TIMEOUT = 60.0
_STOP_TIMEOUT = 20.0
# Longer than a worker takes to finish its batch.
_WORKERS_STOP_TIMEOUT = 60.0
_POLL = 0.1
_STOP_POLL = 0.02
_TAIL_LINES = 5


def _spawn(arguments: Sequence[str], **options: object) -> "subprocess.Popen[bytes]":
    """`leadstream ARGUMENTS` as a child, in a session of its own: Ctrl-C is for us, who stop the children in order."""
    command = ending_with_us([sys.executable, "-m", "cli", *arguments])
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True, **options)  # type: ignore[call-overload, no-any-return]


@dataclass(slots=True, kw_only=True)
class _Child(Supervised):
    arguments: tuple[str, ...]
    environ: Mapping[str, str]
    ready_url: str
    http: httpx.Client
    lock: int | None
    process: "subprocess.Popen[bytes]" = field(init=False)

    def launch(self) -> None:
        """A further start appends to the same log, which the child itself cuts."""
        locks = () if self.lock is None else (self.lock,)
        with self.log.open("ab") as out:
            self.process = _spawn(
                self.arguments, stdout=out, stderr=subprocess.STDOUT, env=self.environ, pass_fds=locks
            )

    def ended(self) -> str | None:
        status = self.process.poll()
        return None if status is None else f"ended with status {status}"

    def unwell(self) -> str | None:
        answer = _answer_of(self.http, urllib.parse.urljoin(self.ready_url, "/healthz"))
        return None if answer is not None and answer.is_success else "its health is red or unanswered"

    def end(self, *, at_once: bool) -> None:
        """At once, with every process that the child has started."""
        if at_once:
            os.killpg(self.process.pid, signal.SIGKILL)
        else:
            self.process.send_signal(signal.SIGTERM)


@dataclass(slots=True)
class Processes:
    """`leadstream` commands as children. Each writes its log to `log_dir`; leaving stops everything that was started.

    On Linux they also end when this process is killed; so start them from its main thread. They inherit `lock`.

    A child that ends by itself is a fault: `check` raises with the end of its log, `tend` starts it again.
    `environ_of` gives the part of `environ` that a child of this name may have.
    """

    log_dir: Path
    environ: Mapping[str, str]
    say: Callable[[str], None]
    patience: float = _READY_TIMEOUT
    environ_of: Callable[[str], Mapping[str, str]] | None = None
    interrupts: Interrupts = field(default_factory=Interrupts)
    lock: int | None = None
    stop_within: float = _STOP_TIMEOUT
    new_watch: Callable[[], Watch] = Watch
    # A proxy of the environment does not reach this machine.
    _http: httpx.Client = field(default_factory=lambda: httpx.Client(trust_env=False, timeout=2))
    _children: list[_Child] = field(default_factory=list)

    def __enter__(self) -> "Processes":
        make_private(self.log_dir)
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._http.close()

    def start(self, name: str, *arguments: str, ready_url: str) -> None:
        """Start `leadstream ARGUMENTS`; `await_ready` waits for all children."""
        log = self.log_dir / f"{name}.log"
        set_aside(log)
        create_private(log)
        environ = self.environ_of(name) if self.environ_of is not None else self.environ
        child = _Child(
            name=name,
            log=log,
            say=self.say,
            watch=self.new_watch(),
            stop_within=self.stop_within,
            arguments=arguments,
            environ={**environ, variable("log_file"): str(log)},
            ready_url=ready_url,
            http=self._http,
            lock=self.lock,
        )
        child.launch()
        self._children.append(child)

    def await_ready(self) -> None:
        """Wait until every child answers its ready URL with 200.

        Raises `OperationError` when one ends, or answers nothing new for a minute: reading a long log takes its time.
        """
        for child in self._children:
            last, deadline = b"", time.monotonic() + self.patience
            while (answer := _answer_of(self._http, child.ready_url)) is None or not answer.is_success:
                self.check()
                if answer is not None and answer.content != last:
                    last, deadline = answer.content, time.monotonic() + self.patience
                if time.monotonic() > deadline:
                    minutes = f"{self.patience / 60:.0f} min" if self.patience >= 60 else f"{self.patience:.1f} s"
                    raise OperationError(
                        f"{child.name} is not ready and said nothing new for {minutes}; see {child.log}"
                    )
                time.sleep(_POLL)
            child.watch.report(well=True)
            self.say(f"{child.name} is ready")

    def check(self) -> None:
        """Raises `OperationError` when a child has ended."""
        for child in self._children:
            if (how := child.ended()) is not None:
                tail = child.log.read_text(errors="replace").splitlines()[-_TAIL_LINES:]
                raise OperationError(f"{child.name} {how}; see {child.log}", *tail)

    def tend(self) -> None:
        """Keep every child running, as `Supervised.tend` does."""
        for child in self._children:
            child.tend()

    @property
    def restarts(self) -> dict[str, int]:
        """How often each child was started again."""
        return {child.name: child.restarts for child in self._children}

    def stop(self) -> None:
        """End the children in reverse order; kill one that does not end, and all of them once `hurried` is set."""
        self.interrupts.stopping = True
        while self._children:
            child = self._children.pop()
            if child.ended() is None:
                child.end(at_once=False)
            deadline = time.monotonic() + self.stop_within
            while child.ended() is None:
                if self.interrupts.hurried or time.monotonic() > deadline:
                    hurry = "is killed" if self.interrupts.hurried else "does not end: killed"
                    self.say(f"{child.name} {hurry}")
                    child.end(at_once=True)
                    child.process.wait()
                time.sleep(_STOP_POLL)


def run_workers(commands: Sequence[Sequence[str]]) -> None:
    """Run `leadstream` commands with our output until SIGTERM or Ctrl-C, or until one ends; then end all of them.

    Raises `OperationError` for a worker that ended by itself, or badly.
    """
    is_stopped = False

    def stop(_number: int, _frame: FrameType | None) -> None:
        nonlocal is_stopped
        is_stopped = True

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    workers = [_spawn(command) for command in commands]
    while not is_stopped and all(worker.poll() is None for worker in workers):
        time.sleep(_POLL)
    ended = {number: worker.returncode for number, worker in enumerate(workers) if worker.returncode is not None}
    for worker in workers:
        worker.terminate()
    deadline = time.monotonic() + _WORKERS_STOP_TIMEOUT
    for worker in workers:
        try:
            worker.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            worker.kill()
            worker.wait()
    failed = {number: worker.returncode for number, worker in enumerate(workers) if worker.returncode}
    for worker_number, status in (ended or failed).items():
        raise OperationError(f"worker {worker_number} ended with status {status}; the others were stopped")


def _answer_of(http: httpx.Client, url: str) -> httpx.Response | None:
    """None where the child does not answer, or ends or stops in the middle of its answer."""
    try:
        return http.get(url)
    except httpx.HTTPError:
        return None
