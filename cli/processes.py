"""The processes of one machine: started in data-path order, watched, stopped in reverse."""

import http.client
import os
import signal
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import click

from cli.interrupts import Interrupts
from cli.watch import Watch
from runtime.child_process import ending_with_us
from runtime.file_faults import reason
from runtime.log_file import set_aside
from runtime.private_directory import create_private, make_private
from runtime.settings import variable

_READY_TIMEOUT = 60.0
_STOP_TIMEOUT = 20.0
_POLL = 0.1
_STOP_POLL = 0.02
_TAIL_LINES = 5


class _EveryStatus(urllib.request.HTTPErrorProcessor):
    """Give a refusal as the answer that it is, so that whatever goes wrong while it is read raises in one place."""

    def http_response(self, _: urllib.request.Request, response: http.client.HTTPResponse) -> http.client.HTTPResponse:
        return response


# A proxy of the environment does not reach this machine.
_LOOPBACK = urllib.request.build_opener(urllib.request.ProxyHandler({}), _EveryStatus)


@dataclass(slots=True)
class _Child:
    name: str
    arguments: tuple[str, ...]
    environ: Mapping[str, str]
    process: subprocess.Popen[bytes]
    log: Path
    ready_url: str
    watch: Watch
    restarts: int = 0
    restart_at: float | None = None
    kill_at: float | None = None


@dataclass(slots=True)
class Processes:
    """`leadstream` commands as children. Each writes its log to `log_dir`; leaving stops what was started.

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
    _children: list[_Child] = field(default_factory=list)

    def __enter__(self) -> "Processes":
        make_private(self.log_dir)
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self, name: str, *arguments: str, ready_url: str) -> None:
        """Start `leadstream ARGUMENTS`; `await_ready` waits for all that were started."""
        log = self.log_dir / f"{name}.log"
        set_aside(log)
        create_private(log)
        environ = self.environ_of(name) if self.environ_of is not None else self.environ
        environ = {**environ, variable("log_file"): str(log)}
        process = self._spawn(arguments, environ, log)
        self._children.append(_Child(name, arguments, environ, process, log, ready_url, self.new_watch()))

    def _spawn(self, arguments: tuple[str, ...], environ: Mapping[str, str], log: Path) -> "subprocess.Popen[bytes]":
        with log.open("ab") as out:
            return subprocess.Popen(
                ending_with_us([sys.executable, "-m", "cli", *arguments]),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                # It is the child that cuts it.
                env=environ,
                # Ctrl-C is for us alone: we stop the children in their order.
                start_new_session=True,
                pass_fds=() if self.lock is None else (self.lock,),
            )

    def await_ready(self) -> None:
        """Wait until every child answers its ready URL with 200.

        Raises when one ends, or says nothing new for a minute: reading a long log takes its time.
        """
        for child in self._children:
            said, deadline = b"", time.monotonic() + self.patience
            while not (answer := _answer_of(child.ready_url)).ready:
                self.check()
                if answer.body != said:
                    said, deadline = answer.body, time.monotonic() + self.patience
                if time.monotonic() > deadline:
                    minutes = f"{self.patience / 60:.0f} min" if self.patience >= 60 else f"{self.patience:.1f} s"
                    raise click.ClickException(
                        f"{child.name} is not ready and said nothing new for {minutes}; see {child.log}"
                    )
                time.sleep(_POLL)
            child.watch.report(well=True)
            self.say(f"{child.name} is ready")

    def check(self) -> None:
        for child in self._children:
            status = child.process.poll()
            if status is not None:
                tail = "\n".join(child.log.read_text(errors="replace").splitlines()[-_TAIL_LINES:])
                raise click.ClickException(f"{child.name} ended with status {status}; see {child.log}\n{tail}")

    def tend(self) -> None:
        """Start again what has ended, after 1, 2, 4 … 30 seconds, and end what hangs; never raises for either.

        A child hangs when its `/healthz` is not 200 for two minutes.
        """
        for child in self._children:
            if child.process.poll() is None:
                self._look_at(child)
            else:
                self._restart(child)

    def _look_at(self, child: _Child) -> None:
        at = time.monotonic()
        if child.kill_at is not None:
            if at >= child.kill_at:
                _kill(child)
        elif child.watch.is_due(at):
            answer = _answer_of(urllib.parse.urljoin(child.ready_url, "/healthz"))
            child.watch.report(well=answer.ready)
            if child.watch.is_hung:
                self.say(f"{child.name} hangs, its health is red or unanswered; it is ended, see {child.log}")
                child.process.send_signal(signal.SIGTERM)
                child.kill_at = at + self.stop_within

    def _restart(self, child: _Child) -> None:
        """Its log goes on in the same file."""
        if child.restart_at is None:
            pause = child.watch.pause()
            child.restart_at, child.kill_at = time.monotonic() + pause, None
            status = child.process.returncode
            self.say(f"{child.name} ended with status {status}, see {child.log}; again in {pause:.0f} s")
        elif time.monotonic() >= child.restart_at:
            try:
                child.process, child.restart_at = self._spawn(child.arguments, child.environ, child.log), None
                child.restarts += 1
            except OSError as fault:
                pause = child.watch.pause()
                child.restart_at = time.monotonic() + pause
                self.say(f"{child.name} cannot be started: {reason(fault)}; again in {pause:.0f} s")

    @property
    def restarts(self) -> dict[str, int]:
        """How often each child was started again."""
        return {child.name: child.restarts for child in self._children}

    def stop(self) -> None:
        """SIGTERM in reverse order, then SIGKILL for what does not end, and for everything once `hurried` is set."""
        self.interrupts.stopping = True
        while self._children:
            child = self._children.pop()
            if child.process.poll() is None:
                child.process.send_signal(signal.SIGTERM)
            deadline = time.monotonic() + self.stop_within
            while child.process.poll() is None:
                if self.interrupts.hurried or time.monotonic() > deadline:
                    hurry = "is killed" if self.interrupts.hurried else "does not end: killed"
                    self.say(f"{child.name} {hurry}")
                    _kill(child)
                    child.process.wait()
                time.sleep(_STOP_POLL)


def _kill(child: _Child) -> None:
    """End a child that has not been waited for, and what it has started."""
    os.killpg(child.process.pid, signal.SIGKILL)


@dataclass(frozen=True, slots=True)
class _Answer:
    ready: bool
    body: bytes = b""


def _answer_of(url: str) -> _Answer:
    """Not ready where the child does not answer, or ends or stops in the middle of its answer."""
    try:
        with _LOOPBACK.open(url, timeout=2) as response:
            return _Answer(response.status == 200, response.read())
    except (OSError, http.client.HTTPException):
        return _Answer(ready=False)
