"""A schema registry of another make: Apicurio's, which checks compatibility by itself and knows nothing of ours."""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

SOURCE = Path(__file__).with_name("apicurio")
_LISTENING = re.compile(r"Listening on: (http://\S+)")
_NOT_FETCHED = re.compile(r"resolvable|cannot access|could not (?:be resolved|resolve|transfer|find)", re.IGNORECASE)
_START_SECONDS = 120.0
# Neither program runs long enough for more than the first compiler.
_JVM_OPTIONS = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC")


@contextmanager
def apicurio(folder: Path) -> Iterator[str]:
    """The URL of an empty registry, built in `folder` of the jars that `lib.sha256` locks."""
    maven = shutil.which("mvn")
    if maven is None:
        pytest.skip("a registry of another make is built with Maven, and there is no mvn on PATH")
    shutil.copy(SOURCE / "pom.xml", folder)
    _build(maven, folder)
    assert _hashes(folder / "target" / "lib") == (SOURCE / "lib.sha256").read_text().splitlines()
    log = folder / "registry.log"
    command = ["java", *_JVM_OPTIONS, "-Xmx256m", "-jar", "target/apicurio-1-runner.jar"]
    environment = {**os.environ, "QUARKUS_HTTP_HOST": "127.0.0.1", "HTTP_PORT": "0"}
    with (
        log.open("wb") as said,
        subprocess.Popen(command, cwd=folder, env=environment, stdout=said, stderr=said) as serving,
    ):
        try:
            yield f"{_url(serving, log)}/apis/ccompat/v7"
        finally:
            serving.terminate()


def register(url: str, prefix: str) -> subprocess.CompletedProcess[str]:
    """`leadstream schemas register` against the registry at `url`."""
    environment = {**os.environ, "LEADSTREAM_SCHEMA_REGISTRY_URL": url, "LEADSTREAM_TOPIC_PREFIX": prefix}
    command = [sys.executable, "-m", "cli", "schemas", "register"]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def _build(maven: str, folder: Path) -> None:
    """Of the jars that are here already, else of the network's; skips where they cannot be had at the second try."""
    environment = {"MAVEN_OPTS": " ".join(_JVM_OPTIONS), **os.environ}
    for source in ("--offline", "--update-snapshots", "--update-snapshots"):
        done = subprocess.run(
            [maven, "-B", "-q", source, "package"],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode == 0:
            return
    if _NOT_FETCHED.search(done.stdout):
        pytest.skip("Maven could not fetch the registry of another make")
    raise AssertionError(f"Apicurio was not built: {done.stdout[-2000:]}")


def _hashes(folder: Path) -> list[str]:
    """As `sha256sum *` prints them."""
    return [f"{hashlib.sha256(jar.read_bytes()).hexdigest()}  {jar.name}" for jar in sorted(folder.iterdir())]


def _url(serving: subprocess.Popen[bytes], log: Path) -> str:
    until = time.monotonic() + _START_SECONDS
    while serving.poll() is None and time.monotonic() < until:
        if found := _LISTENING.search(log.read_text()):
            return found[1]
        time.sleep(0.1)
    raise AssertionError(f"Apicurio did not start: {log.read_text()[-2000:]}")
