"""A schema registry of another make: franz-go's, which is made for tests and knows nothing of ours."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

SOURCE = Path(__file__).with_name("srfake")


@contextmanager
def franz_go(binary: Path) -> Iterator[str]:
    """The URL of an empty registry of another make, built of the version that `go.sum` pins."""
    go = shutil.which("go")
    if go is None:
        pytest.skip("a registry of another make is built with Go, and there is no go on PATH")
    subprocess.run([go, "build", "-mod=readonly", "-o", str(binary), "."], cwd=SOURCE, check=True)
    with subprocess.Popen([binary], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as serving:
        assert serving.stdout is not None
        yield serving.stdout.readline().strip()


def register(url: str, prefix: str) -> subprocess.CompletedProcess[str]:
    """`leadstream schemas register` against the registry at `url`."""
    environment = {**os.environ, "LEADSTREAM_SCHEMA_REGISTRY_URL": url, "LEADSTREAM_TOPIC_PREFIX": prefix}
    command = [sys.executable, "-m", "cli", "schemas", "register"]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
