"""Java, and Apache Kafka's jars: found, or fetched once with Maven into the user's cache."""

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from importlib.resources import as_file, files
from importlib.resources.abc import Traversable
from pathlib import Path
from xml.etree import ElementTree

_JAVA_NEEDED = 17
_MAVEN_GOAL = ("-B", "dependency:copy-dependencies")
_WAYS_OUT = "or set LEADSTREAM_BROKER to a Kafka that runs elsewhere"


class KafkaNodeError(Exception):
    """The local Kafka node cannot do what was asked; the message is one line and names the ways out."""


def find_java(environ: Mapping[str, str]) -> tuple[str, str]:
    """The `java` to run and its version: of `JAVA_HOME` if set, else the first on `PATH`; 17 or newer."""
    home = environ.get("JAVA_HOME")
    java = str(Path(home, "bin", "java")) if home else shutil.which("java", path=environ.get("PATH"))
    if java is None or not os.access(java, os.X_OK):
        where = "JAVA_HOME has none" if home else "there is no java on PATH"
        raise KafkaNodeError(f"Kafka needs Java {_JAVA_NEEDED} or newer and {where}: install a JRE, {_WAYS_OUT}")
    said = subprocess.run([java, "-version"], env=dict(environ), capture_output=True, text=True, check=False)
    found = re.search(r'version "((\d+)[^"]*)"', said.stderr)
    if found is None or int(found[2]) < _JAVA_NEEDED:
        seen = f"{java} is version {found[1]}" if found else f"{java} does not tell its version"
        raise KafkaNodeError(f"Kafka needs Java {_JAVA_NEEDED} or newer and {seen}: install a newer JRE, {_WAYS_OUT}")
    return java, found[1]


def kafka_version() -> str:
    """The version of Apache Kafka that the pom pins."""
    pom = ElementTree.fromstring(_pom().read_text())
    return str(pom.findtext(".//{*}kafka.version"))


def kafka_jars(environ: Mapping[str, str], progress: Callable[[str], None]) -> Path:
    """The folder of Kafka's jars. Fetches them the first time; complete or absent, also when two processes race."""
    caches = Path(environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "leadstream")
    jars = caches / f"kafka-{kafka_version()}"
    if jars.is_dir():
        return jars
    maven = shutil.which("mvn", path=environ.get("PATH"))
    if maven is None:
        raise KafkaNodeError(
            f"Apache Kafka {kafka_version()} is not here yet and fetching it needs Maven: install mvn, {_WAYS_OUT}"
        )
    caches.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".kafka-", dir=caches, ignore_cleanup_errors=True) as scratch:
        fetched = Path(scratch, "jars")
        _fetch([maven, *_MAVEN_GOAL, f"-DoutputDirectory={fetched}"], environ, progress)
        _rename_unless_there(fetched, jars)
    return jars


def _fetch(command: list[str], environ: Mapping[str, str], progress: Callable[[str], None]) -> None:
    progress(f"Fetching Apache Kafka {kafka_version()} with Maven, once")
    count = 0
    trouble = None
    with (
        as_file(_pom()) as pom,
        subprocess.Popen(
            [*command, "-f", str(pom)], env=dict(environ), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as running,
    ):
        for line in running.stdout or ():
            if "Downloaded from" in line and ".jar" in line:
                count += 1
                progress(f"Fetching Apache Kafka {kafka_version()} with Maven: {count} jars so far")
            if "[ERROR]" in line and trouble is None:
                trouble = line.partition("[ERROR]")[2].strip()
    if running.returncode != 0:
        raise KafkaNodeError(
            f"Maven could not fetch Apache Kafka ({trouble or 'no reason given'}): try again, {_WAYS_OUT}"
        )


def _rename_unless_there(fetched: Path, jars: Path) -> None:
    try:
        fetched.rename(jars)
    except OSError:
        if not jars.is_dir():
            raise


def _pom() -> Traversable:
    return files("runtime") / "kafka_node.pom.xml"
