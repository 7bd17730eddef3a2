"""The commands that a user types first, as they type them."""

import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from runtime.ports import free_ports

pytestmark = pytest.mark.integration

LEADSTREAM = (sys.executable, "-m", "cli")


def environ(**settings: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("LEADSTREAM_")}
    return {**kept, **{f"LEADSTREAM_{name}": value for name, value in settings.items()}}


def test_demo_shows_every_ending_and_leaves_nothing_running(kafka_broker: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [*LEADSTREAM, "demo", "--leads", "25"],
        env=environ(BROKER=kafka_broker, STATE_DIR=str(tmp_path))
        | {"http_proxy": "http://127.0.0.1:9", "HTTPS_PROXY": "http://127.0.0.1:9", "ALL_PROXY": "http://127.0.0.1:9"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    # In no order: they come from several partitions.
    rows = _rows(done.stdout)
    assert any("Menlo Park" in row and "expired" in row for row in rows)
    assert any("Menlo Park" in row and "thanks: read" in row for row in rows)
    assert any("incomplete" in row and "second-chance: read" in row for row in rows)
    assert "dead letter" in done.stdout
    funnel = [tuple(map(int, row)) for row in re.findall(r"│ [0-9]{15} " + r"│ ([0-9]+) +" * 6 + "│", done.stdout)]
    leads, *columns = map(sum, zip(*funnel, strict=True))
    assert leads == 28
    assert all(columns), "no column of the funnel is empty"
    assert not _processes_with(str(tmp_path))


def test_up_serves_until_it_is_interrupted_and_prints_a_line_to_try(kafka_broker: str, tmp_path: Path) -> None:
    port = free_ports()
    settings = environ(
        BROKER=kafka_broker,
        STATE_DIR=str(tmp_path),
        WAREHOUSE=str(tmp_path / "warehouse"),
        TOPIC_PREFIX=f"up-{os.getpid()}-",
        PORT=str(port),
        ADMIN_PORT=str(free_ports(6)),
        APP_ID="1",
        APP_SECRET="test-app-secret",
        VERIFY_TOKEN="test-verify-token",
        # Where nobody is, for the doctor that `up` starts.
        GRAPH_URL=f"http://127.0.0.1:{free_ports()}",
    )
    log = tmp_path / "up.log"
    with log.open("wb") as out:
        up = subprocess.Popen([*LEADSTREAM, "up"], env=settings, stdout=out, stderr=out, cwd=tmp_path)
    try:
        deadline = time.monotonic() + 60
        while "Ctrl-C stops everything" not in log.read_text():
            assert up.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        (curl,) = (line.strip() for line in log.read_text().splitlines() if line.strip().startswith("curl"))
        answer = subprocess.run(curl, shell=True, capture_output=True, text=True, timeout=20, check=False)
        challenge = f"http://127.0.0.1:{port}/webhooks/messenger?hub.mode=subscribe&hub.verify_token=test-verify-token"
        with urllib.request.urlopen(f"{challenge}&hub.challenge=1158201444", timeout=5) as response:
            assert response.read() == b"1158201444"
    finally:
        up.send_signal(signal.SIGINT)
        status = up.wait(60)

    assert " 200 " in answer.stdout
    assert status == 0
    assert not _processes_with(str(tmp_path))


@pytest.mark.parametrize("missing", ["APP_ID", "APP_SECRET", "VERIFY_TOKEN"])
def test_what_is_missing_is_one_line_that_names_the_variable(missing: str, tmp_path: Path) -> None:
    required = {"APP_ID": "1", "APP_SECRET": "planted", "VERIFY_TOKEN": "planted"}
    del required[missing]
    done = subprocess.run(
        [*LEADSTREAM, "up"],
        env=environ(STATE_DIR=str(tmp_path), **required),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )

    assert done.returncode == 1
    assert done.stderr == f"Error: LEADSTREAM_{missing} is not set: it has no default\n"


def _rows(output: str) -> list[str]:
    """The rows of the table of leads, each with its continuation lines."""
    rows: list[str] = []
    for line in output[output.index("Follow-up") :].splitlines():
        if line.startswith("│"):
            first = line.split("│")[1].strip()
            rows = [*rows, line] if first else [*rows[:-1], rows[-1] + line]
    return rows


def _processes_with(text: str) -> list[str]:
    found = subprocess.run(["pgrep", "-f", text], capture_output=True, text=True, check=False)
    return found.stdout.split()
