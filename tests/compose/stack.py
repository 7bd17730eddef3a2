"""The stack as README starts it, in a copy of the project with ports and a name of its own."""

import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runtime.ports import free_ports
from tests.compose.engine import Engine

ROOT = Path(__file__).parents[2]
PASSWORD = "p@ss/w:rd#1 50%off"
# What an operator reads beside what the image is made of.
_FILES = ("docker-compose.yml", "Dockerfile", ".dockerignore", ".env.example", "examples", "observability")
_PORTS = ("LEADSTREAM_PORT", "LEADSTREAM_KAFKA_PORT", "POSTGRES_PORT", "CONSOLE_PORT")
_WITHIN = 120.0


@dataclass(frozen=True, slots=True)
class Stack:
    engine: Engine
    folder: Path
    project: str

    def compose(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            ["docker", "compose", "--ansi=never", "--project-name", self.project, *words],
            cwd=self.folder, env=self.engine.environ, capture_output=True, text=True, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert not check or done.returncode == 0, f"docker compose {' '.join(words)}: {done.stdout}{done.stderr}"
        return done

    def run(self, service: str, *words: str) -> str:
        """Standard output of a container that runs once, as docs/containers.md has it."""
        return self.compose("run", "--rm", "--no-TTY", service, *words).stdout

    def containers(self) -> dict[str, dict[str, Any]]:
        """Of each service, all that the engine shows."""
        ids = self.engine.docker(
            "ps", "--all", "--quiet", "--filter", f"label=com.docker.compose.project={self.project}"
        )
        shown = json.loads(self.engine.docker("inspect", *ids.split())) if ids else []
        return {container["Config"]["Labels"]["com.docker.compose.service"]: container for container in shown}

    def ask(self, question: str) -> list[list[str]]:
        """Rows of PostgreSQL, asked on its own side."""
        words = ("psql", "--username=leadstream", "--no-align", "--tuples-only", "--field-separator=\t")
        rows = self.compose("exec", "-T", "postgres", *words, "--command", question).stdout
        return [row.split("\t") for row in rows.splitlines()]

    def await_healthy(self) -> None:
        """Every lasting service runs, and is healthy."""
        await_true(lambda: not self.unhealthy(), lambda: f"not healthy: {self.unhealthy()}")

    def unhealthy(self) -> dict[str, str]:
        lasting = {name: container["State"] for name, container in self.containers().items() if name != "topics"}
        return {name: state["Health"]["Status"] for name, state in lasting.items() if not _is_healthy(state)}

    def run_campaign(self, leads: int, seed: int) -> int:
        """The number of its webhooks, when every lead is in PostgreSQL and each has its follow-up ended."""
        before = self.count("leads")
        said = self.run("campaign", "--leads", str(leads), "--seed", str(seed), "--full-speed")
        made = re.search(r"(\d+) leads in (\d+) webhooks", said)
        assert made is not None, said
        expected = before + int(made[1])
        settled = "('sent', 'delivered', 'read', 'cancelled', 'expired')"
        # An opt-out lies among the outcomes too.
        ended = f"followup_outcomes where status in {settled} and rule <> 'opt-out'"
        await_true(
            lambda: (self.count("leads"), self.count(ended)) == (expected, expected),
            lambda: f"{expected} leads expected; {self.count('leads')}, follow-ups: {self.follow_ups()}",
        )
        return int(made[2])

    def count(self, table: str) -> int:
        return int(self.ask(f"select count(*) from {table}")[0][0])

    def follow_ups(self) -> list[list[str]]:
        return self.ask("select rule, status, reason, count(*) from followup_outcomes group by 1, 2, 3")


@contextmanager
def copied_stack(engine: Engine, folder: Path) -> Iterator[Stack]:
    """Not started. In the end its containers, networks and volumes are removed, whatever became of it."""
    for name in (*_FILES, *_of_the_image()):
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, folder / name)
    example = (folder / ".env.example").read_text(encoding="utf-8")
    ports = "".join(f"{name}={free_ports()}\n" for name in _PORTS)
    (folder / ".env").write_text(example + ports, encoding="utf-8")
    (folder / "examples/stack/secrets/postgres_password").write_text(PASSWORD + "\n")
    stack = Stack(engine, folder, f"leadstream-test-{os.getpid()}")
    try:
        yield stack
    finally:
        stack.compose("--profile", "*", "down", "--volumes", "--timeout", "10", check=False)


def await_true(holds: Callable[[], bool], seen: Callable[[], str]) -> None:
    """Fails with what is `seen` when it does not hold in time."""
    deadline = time.monotonic() + _WITHIN
    while not holds():
        assert time.monotonic() < deadline, seen()
        time.sleep(0.5)


def _of_the_image() -> list[str]:
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    return [line.removeprefix("!") for line in lines if line.startswith("!")]


def _is_healthy(state: dict[str, Any]) -> bool:
    return bool(state["Running"]) and state["Health"]["Status"] == "healthy"
