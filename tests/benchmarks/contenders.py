"""The contenders of the stream layer: how each is run, or why it cannot be run here.

The others share no code of ours where a record passes; the one exception is leadstream as it was at an earlier commit.
"""

import io
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from runtime.local_kafka.jars import KafkaNodeError, find_java

ROOT = Path(__file__).parents[2]
# The last commit before events were joined on arrival and records were Structs.
BEFORE = "8a9b13d69c9ee7aac6d88b06da57e04ffd911bbd"
_QUIX_PYTHON = ROOT / ".venv-bench" / "bin" / "python"
_MAVEN_PROJECT = ROOT / "tests" / "benchmarks" / "kafka_streams"


class NotHere(Exception):
    """The contender cannot run here; the message is the reason."""


@dataclass(frozen=True, slots=True)
class Contender:
    """The process is `command` with the stage behind it, in `folder`.

    `fills` is a program that puts in a load of its own. It is given the stage, the number of people and the half, says
    that it is ready, and waits for a line.
    """

    title: str
    command: tuple[str, ...]
    rounds: int = 3
    folder: Path = ROOT
    behind: tuple[str, ...] = ()
    fills: str | None = None


def ours() -> Contender:
    return Contender("leadstream", (sys.executable, "-m", "tests.benchmarks.contender"))


def before() -> Contender:
    """leadstream at the commit `BEFORE`, with the packages of today; it is filled by its own tree."""
    folder = Path(tempfile.mkdtemp(prefix="before-"))
    try:
        archive = subprocess.run(
            ["git", "-C", str(ROOT), "archive", "--format=tar", BEFORE], capture_output=True, check=True
        )
    except FileNotFoundError:
        raise NotHere("there is no git") from None
    except subprocess.CalledProcessError:
        raise NotHere(f"this checkout does not have commit {BEFORE[:7]}") from None
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as tar:
        tar.extractall(folder, filter="data")
    command = (sys.executable, "-m", "tests.benchmarks.contender", "ours")
    return Contender(f"leadstream at {BEFORE[:7]}", command, folder=folder, fills=_FILL)


_FILL = """
import asyncio, os, sys
from runtime.settings import read_settings
from schemas.codec import event_codec
from schemas.topics import EVENTS, WEBHOOKS
from tests.benchmarks.lane import fill
from tests.benchmarks.load import SIGNALS, joinable, webhooks

stage, people, half = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
settings, encode = read_settings(os.environ), event_codec().encode
if stage == "split":
    topic, records = WEBHOOKS, list(webhooks(people))
else:
    events = joinable(people, raw_partitions=settings.partitions)
    topic, records = EVENTS, [(key, encode(event)) for key, event in events]
keyed = [number for number, (key, _) in enumerate(records) if key is not None]
begin = keyed[people * SIGNALS // 2]
print("ready", flush=True)
input()
asyncio.run(fill(settings, topic, (records[:begin], records[begin:])[half]))
"""


def plain() -> Contender:
    return Contender("plain aiokafka loop", (sys.executable, "-m", "tests.benchmarks.others.plain"))


def stock() -> Contender:
    """Once, because it takes longer than the others together."""
    return Contender("stock Faust", (sys.executable, "-m", "tests.benchmarks.others.stock"), rounds=1)


def quix() -> Contender:
    """Quix Streams excludes versions that ours has, so it has a Python of its own."""
    if not _QUIX_PYTHON.exists():
        raise NotHere("there is no .venv-bench, which `make bench` makes")
    return Contender("Quix Streams", (str(_QUIX_PYTHON), "-m", "tests.benchmarks.others.quix"))


def kafka_streams() -> Contender:
    """Built with Maven once for each state of its sources, into the cache that holds Kafka's jars."""
    try:
        java, _ = find_java(os.environ)
    except KafkaNodeError as fault:
        raise NotHere(str(fault)) from None
    sources = sorted(path for path in _MAVEN_PROJECT.rglob("*") if path.suffix in {".xml", ".java"})
    digest = sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()[:12]
    built = Path(os.environ["XDG_CACHE_HOME"], "leadstream", f"kafka-streams-{digest}")
    if not built.is_dir():
        _build(built)
    command = (java, "-cp", f"{built / 'classes'}:{built / 'dependency'}/*", "Yardstick")
    return Contender("Kafka Streams", command, behind=(str(ROOT / "schemas"),))


def _build(built: Path) -> None:
    maven = shutil.which("mvn")
    if maven is None:
        raise NotHere("there is no mvn to build it with")
    built.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=built.parent, ignore_cleanup_errors=True) as scratch:
        target = Path(scratch, "target")
        goal = ["-q", "-B", "-Dmaven.test.skip=true", f"-Dtarget={target}", "package"]
        done = subprocess.run(
            [maven, "-f", str(_MAVEN_PROJECT), *goal], capture_output=True, text=True, errors="replace", check=False
        )
        if done.returncode != 0:
            errors = [line for line in done.stdout.splitlines() if "ERROR" in line]
            raise NotHere(f"Maven did not build it: {errors[0] if errors else done.returncode}")
        target.rename(built)


CONTENDERS: dict[str, Callable[[], Contender]] = {
    "ours": ours, "before": before, "plain": plain, "quix": quix, "kafka-streams": kafka_streams, "stock": stock
}  # fmt: skip
