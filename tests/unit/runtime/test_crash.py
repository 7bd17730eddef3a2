"""What ends a process is told by its place and kind: its words may be a secret's or a person's."""

import logging
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from ingest.server import Worker
from operations.stages import ingest
from runtime.settings import Settings

# Python 3.13 shows the lines of a `-c` program, so the words that must not be said are in two parts there.
CRASH = """
import asyncio, sys
from runtime.logs import configure_logging, log_crash
sys.excepthook = log_crash

async def fall():
    raise ValueError("plan" "ted of a person")

async def main():
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(fall())
"""
LOGGING = 'configure_logging("info", secrets=["planted"])\n'
FORGOTTEN = """
async def forget():
    task = asyncio.create_task(fall())
    await asyncio.sleep(0)
    asyncio.get_running_loop().call_soon(int, "plan" "ted of a callback")
    await asyncio.sleep(0)
"""


def said_by(program: str) -> tuple[int, str]:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("before", ["", LOGGING], ids=["a command", "a stage that logs"])
def test_a_crash_names_its_place_and_kind_and_says_no_word(before: str) -> None:
    status, said = said_by(f"{CRASH}{before}asyncio.run(main())")

    assert status == 1
    assert "in fall" in said
    assert "ValueError" in said
    assert "planted" not in said


def test_a_task_that_nobody_awaits_logs_no_message_either() -> None:
    status, said = said_by(f"{CRASH}{LOGGING}{FORGOTTEN}asyncio.run(forget())")

    assert status == 0
    assert "Task exception was never retrieved" in said
    assert "Exception in callback int" in said
    assert "planted" not in said


@pytest.mark.slow
@pytest.mark.parametrize("command", ["ingest", "doctor"])
def test_a_command_that_crashes_says_no_word(command: str) -> None:
    environment = {"LEADSTREAM_APP_ID": "1", "LEADSTREAM_APP_SECRET": "planted1", "LEADSTREAM_VERIFY_TOKEN": "planted2"}
    status, said = said_by(
        f"""
import os
os.environ.update({environment})
import cli.{command} as command
from cli.main import main

def fall(*_):
    raise RuntimeError("plan" "ted of a person, plan" "ted1, plan" "ted2")

command.run_ingest_stage = command.load_pages = fall
main(["{command}"])
"""
    )

    assert status == 1
    assert said.endswith("RuntimeError\n") or '"event": "process.crashed"' in said
    assert "planted" not in said


@pytest.mark.parametrize("error", [RuntimeError("planted"), ExceptionGroup("planted", [ValueError("planted")])])
def test_a_worker_that_crashes_says_no_word(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def fall(*_: object) -> None:
        raise error

    monkeypatch.setattr(ingest, "_work", fall)
    monkeypatch.setattr(ingest, "_start_log", lambda _: None)
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    with socket.socket() as one, pytest.raises(SystemExit):
        ingest._run_worker(Settings(), Worker(one, one, Path("unused")))

    said = capsys.readouterr().err
    assert type(error).__name__ in said
    assert "planted" not in said
