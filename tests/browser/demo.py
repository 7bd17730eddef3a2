"""A demo that stays up, with two consoles, one of which wants a token, a replay, and a browser."""

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
from playwright.sync_api import Browser, sync_playwright

from runtime.ports import free_ports
from tests.kept_demo import PATIENCE, KeptDemo, kept_demo, running

TOKEN = "the-token-of-the-browser-tests"
REPLAY = "browser"


@dataclass(frozen=True, slots=True)
class Demo:
    """`url` is its console without a token, `locked_url` one with; `log` is what the former has logged."""

    url: str
    locked_url: str
    log: Path
    kept: KeptDemo


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
    with kept_demo(place, leads=40) as kept:
        url = kept.await_console()
        replayed = kept.leadstream("replay", "run", "--from", "0", "--id", REPLAY)
        assert replayed.returncode == 0, replayed.stderr
        port = free_ports()
        inside = {**kept.environ, "LEADSTREAM_CONSOLE_TOKEN": TOKEN}
        with running(["console", "--admin-port", str(port)], inside, place / "locked.log") as locked:
            locked_url = f"http://127.0.0.1:{port}"
            _await_health(locked, locked_url)
            yield Demo(url, locked_url, kept.home / "logs" / "console.log", kept)


def _await_health(process: "subprocess.Popen[bytes]", url: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and process.poll() is None:
        try:
            httpx.get(f"{url}/healthz").raise_for_status()
        except httpx.HTTPError:
            time.sleep(0.2)
        else:
            return
    raise AssertionError(f"{url} does not answer")
