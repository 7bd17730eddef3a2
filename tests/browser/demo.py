"""A demo that stays up, with two consoles, one of which wants a token, a replay, and a browser."""

import os
import re
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
    """`url` is its console without a token, `locked_url` one with; `log` is what the former has logged."""

    url: str
    locked_url: str
    log: Path


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
        inside = {
            **environ,
            "LEADSTREAM_STATE_DIR": str(home),
            "LEADSTREAM_WAREHOUSE": str(home / "warehouse"),
            "LEADSTREAM_CONSOLE_TOKEN": TOKEN,
        }
        replay = [*_LEADSTREAM, "replay", "run", "--from", "0", "--id", REPLAY]
        subprocess.run(replay, env=inside, check=True, capture_output=True, timeout=_PATIENCE)
        port = free_ports()
        with _running(["console", "--admin-port", str(port)], inside, place / "locked.log") as locked:
            locked_url = f"http://127.0.0.1:{port}"
            _await_health(locked, locked_url)
            yield Demo(url, locked_url, home / "logs" / "console.log")


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
