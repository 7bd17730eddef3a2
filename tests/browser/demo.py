"""A demo that stays up, with two consoles, one of which wants a token, a replay, and a browser."""

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
from playwright.sync_api import Browser, sync_playwright

from runtime.ports import free_ports

TOKEN = "the-token-of-the-browser-tests"
REPLAY = "browser"
_LEADSTREAM = [sys.executable, "-m", "cli"]
_PATIENCE = 600.0


@dataclass(frozen=True, slots=True)
class Demo:
    """`url` is its console without a token, `locked_url` one with; `log` is what the former has logged.

    A command with `environ` means the demo.
    """

    url: str
    locked_url: str
    log: Path
    environ: Mapping[str, str]

    def leadstream(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """A command that has ended."""
        return subprocess.run(
            [*_LEADSTREAM, *arguments], env=self.environ, capture_output=True, text=True, timeout=_PATIENCE, check=False
        )


def chromium() -> str | None:
    """The path of the machine's browser."""
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@contextmanager
def a_browser() -> Iterator[Browser]:
    """Chromium without a window, in a home of its own. As root it has no sandbox; it sees only pages of ours."""
    with TemporaryDirectory() as home, sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium(), args=["--no-sandbox"], env={**os.environ, "HOME": home}
        )
        yield browser
        browser.close()


@contextmanager
def demo_that_stays(place: Path) -> Iterator[Demo]:
    """Run `leadstream demo --keep` in a directory, and replay everything once."""
    environ = {**os.environ, "LEADSTREAM_STATE_DIR": str(place / "state")}
    out = place / "demo.log"
    with _running(["demo", "--keep", "--leads", "40"], environ, out) as demo:
        url = _awaited(demo, out, re.compile(r"The console is at (\S+)"))
        home = place / "state" / "demo"
        shown = Demo(url, f"http://127.0.0.1:{free_ports()}", home / "logs" / "console.log", _environ_of(home))
        replayed = shown.leadstream("replay", "run", "--from", "0", "--id", REPLAY)
        assert replayed.returncode == 0, replayed.stderr
        port = shown.locked_url.rpartition(":")[2]
        inside = {**shown.environ, "LEADSTREAM_CONSOLE_TOKEN": TOKEN}
        with _running(["console", "--admin-port", port], inside, place / "locked.log") as locked:
            _await_health(locked, shown.locked_url)
            yield shown


def _environ_of(home: Path) -> dict[str, str]:
    """The environment of a shell that has read the file which the demo has written for it."""
    script = f". {shlex.quote(str(home / 'environment'))}; env -0"
    shell = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True)
    return {name: value for name, _, value in (line.partition("=") for line in shell.stdout.split("\0") if line)}


@contextmanager
def _running(arguments: list[str], environ: Mapping[str, str], out: Path) -> Iterator["subprocess.Popen[bytes]"]:
    with out.open("wb") as file:
        process = subprocess.Popen([*_LEADSTREAM, *arguments], env=environ, stdout=file, stderr=subprocess.STDOUT)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(timeout=_PATIENCE)


def _awaited(process: "subprocess.Popen[bytes]", out: Path, line: re.Pattern[str]) -> str:
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline and process.poll() is None:
        if found := line.search(out.read_text(errors="replace")):
            return found[1]
        time.sleep(0.5)
    raise AssertionError(out.read_text(errors="replace")[-2000:])


def _await_health(process: "subprocess.Popen[bytes]", url: str) -> None:
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline and process.poll() is None:
        try:
            httpx.get(f"{url}/healthz").raise_for_status()
        except httpx.HTTPError:
            time.sleep(0.2)
        else:
            return
    raise AssertionError(f"{url} does not answer")
