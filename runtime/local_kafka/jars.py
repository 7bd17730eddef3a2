"""Java, and Apache Kafka's jars: found, or fetched once with Maven into the user's cache."""

import hashlib
import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from importlib.resources import as_file, files
from importlib.resources.abc import Traversable
from pathlib import Path
from threading import Timer
from time import monotonic
from xml.etree import ElementTree

from runtime.mendable import Mendable

_JAVA_NEEDED = 17
_JAVA_ANSWERS_WITHIN = 30.0
# Without these limits Maven waits for half an hour for a silent server.
_MAVEN_GOAL = (
    "-B",
    "-Daether.connector.connectTimeout=10000",
    "-Daether.connector.requestTimeout=30000",
    "-Dmaven.wagon.rto=30000",
    "-Dmaven.wagon.http.retryHandler.count=1",
    "dependency:copy-dependencies",
)
_PROGRESS_EVERY = 5.0
_MAVEN_SILENT_FOR = 180.0
_LONGEST_REASON = 200
_SUMS = "SHA256SUMS"
_WAYS_OUT = "or set LEADSTREAM_BROKER to a Kafka that runs elsewhere, or use docker compose"
_GET_JAVA = "apt install openjdk-17-jre-headless, brew install openjdk"
_GET_MAVEN = "apt install maven, brew install maven"


class KafkaNodeError(Mendable):
    """The local Kafka node failed; the message is one line and says what to do."""


def find_java(environ: Mapping[str, str]) -> tuple[str, str]:
    """The `java` to run and its version: of `JAVA_HOME` if set, else the first on `PATH`; 17 or newer."""
    home = environ.get("JAVA_HOME")
    java = str(Path(home, "bin", "java")) if home else shutil.which("java", path=environ.get("PATH"))
    needs = f"Kafka needs Java {_JAVA_NEEDED} or newer and"
    if java is None or not os.access(java, os.X_OK):
        where = f"JAVA_HOME has none ({home})" if home else "there is no java on PATH"
        unset = "unset JAVA_HOME or " if home else ""
        raise KafkaNodeError(f"{needs} {where}: {unset}install a JRE ({_GET_JAVA}), {_WAYS_OUT}")
    version = _java_version(java, environ)
    major = re.match(r"\d+", version)
    if major is None or int(major[0]) < _JAVA_NEEDED:
        seen = f"is version {version}" if major else f"does not report its version ({version})"
        raise KafkaNodeError(f"{needs} {java} {seen}: install a newer JRE ({_GET_JAVA}), {_WAYS_OUT}")
    return java, version


def _java_version(java: str, environ: Mapping[str, str]) -> str:
    """The version that java prints in quotes; otherwise the failure, which does not begin with a digit."""
    try:
        result = subprocess.run(
            [java, "-version"],
            env=dict(environ),
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=_JAVA_ANSWERS_WITHIN,
        )
    except subprocess.TimeoutExpired:
        return f"no answer within {_JAVA_ANSWERS_WITHIN:.0f} s"
    except OSError as fault:
        return f"{fault.strerror}"
    match = re.search(r'version "(\d[\w.+-]*)"', result.stderr)
    return match[1] if match else f"exit status {result.returncode}"


def kafka_version() -> str:
    """The version of Apache Kafka that the pom pins."""
    pom = ElementTree.fromstring(_pom().read_text())
    return str(pom.findtext(".//{*}kafka.version"))


def kafka_jars(environ: Mapping[str, str], progress: Callable[[str], None]) -> Path:
    """The folder of Kafka's jars. Fetches them the first time, and again when one is damaged.

    The folder is complete or missing, also when two processes race.
    """
    caches = _caches(environ)
    jars = caches / f"apache-kafka-{kafka_version()}"
    try:
        if jars.is_dir():
            if _is_whole(jars):
                return jars
            progress(f"{jars} is damaged")
        _fetch_into(jars, environ, progress)
    except OSError as fault:
        raise KafkaNodeError(
            f"{caches} cannot hold Apache Kafka's jars ({fault.strerror}): "
            f"set XDG_CACHE_HOME to a directory that can be written and has 200 MB free, {_WAYS_OUT}"
        ) from None
    return jars


def _caches(environ: Mapping[str, str]) -> Path:
    """Without links: Java takes an archive of classes only where their jars have the path that they had."""
    if caches := environ.get("XDG_CACHE_HOME"):
        return Path(caches, "leadstream").resolve()
    try:
        home = environ.get("HOME") or Path.home()
    except RuntimeError:
        raise KafkaNodeError(
            f"HOME is not set: set XDG_CACHE_HOME to a directory for Kafka's jars, {_WAYS_OUT}"
        ) from None
    return Path(home, ".cache", "leadstream").resolve()


def _fetch_into(jars: Path, environ: Mapping[str, str], progress: Callable[[str], None]) -> None:
    maven = shutil.which("mvn", path=environ.get("PATH"))
    if maven is None:
        raise KafkaNodeError(
            f"Apache Kafka {kafka_version()} is not here yet and fetching it needs Maven: "
            f"install mvn ({_GET_MAVEN}), {_WAYS_OUT}"
        )
    jars.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".kafka-", dir=jars.parent, ignore_cleanup_errors=True) as scratch:
        fetched = Path(scratch, "jars")
        _fetch([maven, *_MAVEN_GOAL, f"-DoutputDirectory={fetched}"], environ, progress)
        if not any(fetched.glob("*.jar")):
            raise KafkaNodeError(f"Maven fetched no jar of Apache Kafka: run `mvn --version`, {_WAYS_OUT}")
        sums = [f"{_sum(jar)}  {jar.name}\n" for jar in sorted(fetched.glob("*.jar"))]
        (fetched / _SUMS).write_text("".join(sums))
        progress(f"Fetched {len(sums)} jars")
        _put_in_place(fetched, jars, Path(scratch, "damaged"))


def _is_whole(jars: Path) -> bool:
    """Whether the folder has every jar that was fetched, byte for byte."""
    try:
        lines = [line.split(maxsplit=1) for line in (jars / _SUMS).read_text(encoding="utf-8").splitlines()]
        return bool(lines) and all(_sum(jars / name) == expected for expected, name in lines)
    except (FileNotFoundError, ValueError):
        return False


def _sum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _fetch(command: list[str], environ: Mapping[str, str], progress: Callable[[str], None]) -> None:
    progress(f"Fetching Apache Kafka {kafka_version()} with Maven, once")
    count, trouble, last, reported_at = 0, None, "", monotonic()
    with as_file(_pom()) as pom, _start([*command, "-f", str(pom)], environ) as running:
        for line in _lines(running):
            last = line.strip() or last
            if "Downloaded from" in line and ".jar" in line:
                count += 1
                if monotonic() >= reported_at + _PROGRESS_EVERY:
                    reported_at = monotonic()
                    progress(f"Fetching Apache Kafka {kafka_version()} with Maven: {count} jars so far")
            # Maven warns of an unreachable server first; its error then names what misses the files.
            if trouble is None and ("[ERROR]" in line or "Could not transfer" in line):
                trouble = line.partition("] ")[2].strip()
    if running.returncode != 0:
        silent = running.returncode == -signal.SIGKILL
        reason = (
            f"no output for {_MAVEN_SILENT_FOR:.0f} s" if silent else _shortened(trouble or last or "no reason given")
        )
        raise KafkaNodeError(
            f"Maven could not fetch Apache Kafka ({reason}): look at the network and at ~/.m2/settings.xml and try "
            f"again, {_WAYS_OUT}"
        )


def _start(command: list[str], environ: Mapping[str, str]) -> "subprocess.Popen[str]":
    try:
        return subprocess.Popen(
            command,
            env=dict(environ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
    except OSError as fault:
        raise KafkaNodeError(
            f"{command[0]} cannot be run ({fault.strerror}): install Maven ({_GET_MAVEN}), {_WAYS_OUT}"
        ) from None


def _lines(running: "subprocess.Popen[str]") -> Iterator[str]:
    """The lines of the program's output; it is killed when it writes nothing for too long."""
    while True:
        timer = Timer(_MAVEN_SILENT_FOR, running.kill)
        timer.daemon = True
        timer.start()
        line = running.stdout.readline() if running.stdout else ""
        timer.cancel()
        if not line:
            return
        yield line


def _shortened(reason: str) -> str:
    """The cause at the end of Maven's sentence, without its pointer to a manual."""
    cause = reason.partition(" -> [Help")[0].rpartition("): ")[2]
    return cause if len(cause) <= _LONGEST_REASON else f"{cause[:_LONGEST_REASON]}…"


def _put_in_place(fetched: Path, jars: Path, damaged: Path) -> None:
    """Put the fetched jars in place of damaged ones; whole jars of another process stay."""
    if jars.is_dir() and not _is_whole(jars):
        jars.rename(damaged)
    try:
        fetched.rename(jars)
    except OSError:
        if not jars.is_dir():
            raise


def _pom() -> Traversable:
    return files("runtime.local_kafka") / "node.pom.xml"
